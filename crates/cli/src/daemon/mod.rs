//! The daemon: one replicator, its engine, its ublk devices and its control socket.
//!
//! ```text
//! start ──▶ serve ──▶ stop       a signal, or `remove`
//!   ▲          │
//!   └── takeover ◀── (dead)      the devices wait, the log knows: P1, P10
//!             ▲
//!   succeed ──┘  ◀── upgrade     the same, in the same process, by another program
//! ```

mod disks;
mod drive;
mod job;
mod launch;
mod orders;
mod process;
mod reload;
mod relog;
mod rename;
mod serve;
mod served;
mod service;
mod start;
mod stop;
mod succeed;
mod takeover;
mod ublk;
mod upgrade;

pub(crate) use job::{Job, ReadyDevice, Takeover};
pub(crate) use launch::launch;
pub(crate) use process::{serve_in_foreground, serve_job};
pub(crate) use succeed::succeed;
pub(crate) use takeover::bury;
pub(crate) use upgrade::own_program;
