//! What reaches the daemon's main thread: requests that change something, and signals.
//!
//! One order is carried out at a time, so that no two can interfere. Callers who wait for
//! their turn are told so.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use ublk_target::{Listener, Released};

use crate::control::{Replies, Reply, Request};

/// One thing to be done by the main thread.
pub(super) enum Order {
    /// A caller asks.
    Ask(Ask),
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// The engine has let go of a device.
    Released(Released),
}

/// A request of a caller who waits for the answer.
pub(super) struct Ask {
    pub(super) request: Request,
    replies: Sender<Reply>,
    /// Ends when the final reply has been sent on.
    delivered: Receiver<()>,
}

impl Ask {
    /// Tells the caller how it goes.
    pub(super) fn progress(&self, text: impl Into<String>) {
        // A caller that is gone has no more say; what it asked for is done all the same.
        let _ = self.replies.send(Reply::Progress(text.into()));
    }

    /// Tells the caller how it ended, and waits until it has been told.
    pub(super) fn finish(self, reply: Reply) {
        if self.replies.send(reply).is_ok() {
            let _ = self.delivered.recv_timeout(DELIVERY_LIMIT);
        }
    }
}

/// Where orders come from.
#[derive(Clone)]
pub(super) struct Desk(Sender<Order>);

/// The two ends of the line to the main thread.
pub(super) fn desk() -> (Desk, Receiver<Order>) {
    let (sender, receiver) = mpsc::channel();
    (Desk(sender), receiver)
}

impl Desk {
    /// Passes a request on and sends what is answered, from a caller's thread.
    pub(super) fn pass(&self, request: Request, replies: &mut Replies<'_>) {
        let (sender, answers) = mpsc::channel();
        let (sent, delivered) = mpsc::channel();
        let ask = Ask { request, replies: sender, delivered };
        if self.0.send(Order::Ask(ask)).is_err() {
            return replies.send(&Reply::Error("the daemon is ending".into()));
        }
        loop {
            let reply = match answers.recv_timeout(TURN_PAUSE) {
                Ok(reply) => reply,
                Err(RecvTimeoutError::Timeout) => Reply::Progress("waiting for its daemon".into()),
                Err(RecvTimeoutError::Disconnected) => Reply::Error("the daemon is ending".into()),
            };
            replies.send(&reply);
            if !matches!(reply, Reply::Progress(_)) {
                drop(sent);
                return;
            }
        }
    }

    /// Passes on, from the engine's thread, that it has let go of a device.
    pub(super) fn listener(&self) -> Listener {
        let desk = self.clone();
        Listener::new(move |released| {
            // A main thread that is gone has let go of everything.
            let _ = desk.0.send(Order::Released(released));
        })
    }

    /// Passes SIGTERM and SIGINT on, from a thread of its own.
    pub(super) fn watch_signals(&self) -> Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT]).context("catching signals")?;
        let desk = self.clone();
        let watch = move || {
            for signal in signals.forever() {
                let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
                if desk.0.send(Order::Signal(name)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .context("starting the signal thread")?;
        Ok(())
    }
}

/// A caller is told something at least this often; it gives up after 10 s of silence.
const TURN_PAUSE: Duration = Duration::from_secs(2);

/// How long an answer may take from here to the socket.
const DELIVERY_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Client, Server};

    /// A main thread that answers one request, and a caller of it.
    fn asked(main: impl FnOnce(Ask) + Send + 'static) -> Result<String> {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control");
        let (desk, orders) = desk();
        let me = rustix::process::geteuid().as_raw();
        let pass = move |request, replies: &mut Replies<'_>| desk.pass(request, replies);
        Server::bind(&socket, me).unwrap().start(pass).unwrap();
        let main = thread::spawn(move || match orders.recv().unwrap() {
            Order::Ask(ask) => main(ask),
            Order::Signal(_) | Order::Released(_) => panic!("only a request was expected"),
        });
        let answer =
            Client::connect(&socket).unwrap().ask(&Request::Resume { device: None }, |_| ());
        main.join().unwrap();
        answer
    }

    #[test]
    fn an_answer_of_the_main_thread_reaches_the_caller_after_its_progress() {
        let answer = asked(|ask| {
            ask.progress("half of it");
            ask.finish(Reply::Ok("done".into()));
        });
        assert_eq!(answer.unwrap(), "done");
    }

    #[test]
    fn a_refusal_of_the_main_thread_is_the_caller_s_error() {
        let error = asked(|ask| ask.finish(Reply::Error("in use".into()))).unwrap_err();
        assert_eq!(error.to_string(), "in use");
    }

    #[test]
    fn a_main_thread_that_ends_without_an_answer_keeps_nobody_waiting() {
        let error = asked(drop).unwrap_err();
        assert_eq!(error.to_string(), "the daemon is ending");
    }
}
