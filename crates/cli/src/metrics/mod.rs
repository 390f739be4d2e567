//! Numbers for Prometheus: a status becomes lines of the text format, and lines are served by HTTP.
//!
//! What is exported is one table ([`families`]) and a pure function of what daemons answered; the
//! socket is at the edge ([`serve`]), and HTTP between them is pure as well ([`http`]).

mod exposition;
mod families;
mod http;
mod serve;

pub(crate) use exposition::exposition;
pub(crate) use serve::{Address, Listening};

/// What is known of one replicator: how it is, unless it does not say so.
pub(crate) type Asked = (String, Option<replicator::Status>);

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;
