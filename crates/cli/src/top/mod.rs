//! `top`: how replicators do, drawn again and again.
//!
//! [`frame`] is pure: what was seen of them and a size become lines; [`history`] makes rates of two
//! looks. The terminal is at the edge ([`terminal`]), and is given back whatever happens.

mod columns;
mod frame;
mod history;
mod terminal;

pub(crate) use frame::{Frame, Size, View};
pub(crate) use history::History;
pub(crate) use terminal::{Key, Terminal, size_of_output};

#[cfg(test)]
mod tests;
