//! The control socket: one JSON object a line, a request and its replies, root only.

mod client;
mod lines;
mod protocol;
mod server;

pub(crate) use client::{Client, hung_up};
pub(crate) use lines::Lines;
pub(crate) use protocol::{
    EventsReply, Info, InfoDevice, Reply, Request, StatusReply, TableLine, ToldEvent, Wish,
};
pub(crate) use server::{Replies, Server};
