//! How other threads talk to an engine: a bounded queue, and one eventfd on its ring.
//!
//! Nothing of this is on the way of an I/O. A sender may wait; the engine never does.
#![allow(unsafe_code, reason = "eventfd has no wrapper in std, and its poll goes into the ring")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use blk::{DevNr, DiskId, Errno, Machine, NotOpened, Time};
use io_uring::opcode::PollAdd;
use io_uring::types::Fd;
use uring::{CommandTag, Disk, Ring};

use crate::channel::Channel;
use crate::engine::Attached;
use crate::error::EngineGone;

/// A way into a running engine, for any thread, as often as wanted.
pub struct Handle<M> {
    messages: SyncSender<Message<M>>,
    wake: Arc<File>,
}

/// What another thread can ask of an engine.
pub(crate) enum Message<M> {
    Call(Work<M>),
    AddDisk {
        id: DiskId,
        disk: Arc<Disk>,
    },
    Opened {
        id: DiskId,
        result: Result<Disk, NotOpened>,
    },
    Kept {
        result: Result<(), Errno>,
    },
    RemoveDisk {
        id: DiskId,
        reply: SyncSender<Option<Arc<Disk>>>,
    },
    Attach {
        channel: Channel,
        dev: DevNr,
        reply: SyncSender<Attached>,
    },
    Detach {
        queue: QueueName,
        reply: SyncSender<()>,
    },
    /// Backing I/O in flight has so long to end.
    Stop(Duration),
}

/// Something to do on the engine's thread.
pub(crate) type Work<M> = Box<dyn FnOnce(&mut M, Time) + Send>;

/// One queue in one life of its place on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueName {
    pub(crate) source: u16,
    pub(crate) epoch: u16,
}

impl<M: Machine> Handle<M> {
    /// Runs `work` on the engine's thread, between two batches of events, and
    /// gives back what it returns. What it changes in the machine is polled for
    /// effects right after. It must not block: every device waits for it.
    ///
    /// # Errors
    /// If the engine has stopped, before or during the call.
    pub fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut M, Time) -> R + Send + 'static,
    ) -> Result<R, EngineGone> {
        self.ask(|reply| {
            Message::Call(Box::new(move |machine, now| {
                // A caller that is gone wants no answer.
                let _ = reply.send(work(machine, now));
            }))
        })
    }

    /// Makes a disk known under a number that is free, before any I/O names it.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub fn add_disk(&self, id: DiskId, disk: Disk) -> Result<(), EngineGone> {
        self.send(Message::AddDisk { id, disk: Arc::new(disk) })
    }

    /// Takes a disk back. I/O in flight keeps it open until it has ended.
    ///
    /// # Errors
    /// If the engine has stopped.
    pub fn remove_disk(&self, id: DiskId) -> Result<Option<Arc<Disk>>, EngineGone> {
        self.ask(|reply| Message::RemoveDisk { id, reply })
    }

    /// The end of an opening that the engine asked for. If it has stopped, the disk is closed.
    pub(crate) fn opened(&self, id: DiskId, result: Result<Disk, NotOpened>) {
        let _ = self.send(Message::Opened { id, result });
    }

    /// What the engine wanted to be kept is, or could not be.
    pub(crate) fn kept(&self, result: Result<(), Errno>) {
        let _ = self.send(Message::Kept { result });
    }

    pub(crate) fn attach(&self, channel: Channel, dev: DevNr) -> Result<Attached, EngineGone> {
        self.ask(|reply| Message::Attach { channel, dev, reply })
    }

    /// Waits until `queue` is released; whether it was, within `limit`.
    pub(crate) fn detach(&self, queue: QueueName, limit: Duration) -> Result<bool, EngineGone> {
        let (reply, answer) = sync_channel(1);
        self.send(Message::Detach { queue, reply })?;
        match answer.recv_timeout(limit) {
            Ok(()) => Ok(true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(EngineGone),
        }
    }

    pub(crate) fn stop(&self, limit: Duration) -> Result<(), EngineGone> {
        self.send(Message::Stop(limit))
    }

    fn ask<R>(&self, message: impl FnOnce(SyncSender<R>) -> Message<M>) -> Result<R, EngineGone> {
        let (reply, answer) = sync_channel(1);
        self.send(message(reply))?;
        answer.recv().map_err(|_| EngineGone)
    }

    fn send(&self, message: Message<M>) -> Result<(), EngineGone> {
        self.messages.send(message).map_err(|_| EngineGone)?;
        // Fails only when the counter is full: then the engine is awake already.
        let _ = (&*self.wake).write(&1_u64.to_ne_bytes());
        Ok(())
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// The engine's end.
pub(crate) struct Inbox<M> {
    messages: Receiver<Message<M>>,
    wake: Arc<File>,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> io::Result<(Self, Handle<M>)> {
        // SAFETY: a new descriptor that belongs to nobody else.
        let wake = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Arc::new(File::from_raw_fd(fd))
        };
        let (sender, messages) = sync_channel(MESSAGES_MAX);
        let handle = Handle { messages: sender, wake: Arc::clone(&wake) };
        Ok((Self { messages, wake }, handle))
    }

    /// Asks the ring to say when there is something to take.
    pub(crate) fn arm(&self, ring: &mut Ring) {
        let entry = PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: a poll points to no memory.
        unsafe { ring.command(WAKE, entry) };
    }

    /// Forgets that there was something; to be called before taking it.
    pub(crate) fn clear(&self) {
        // Nothing to read means that nobody has written since: fine as well.
        let _ = (&*self.wake).read(&mut [0; 8]);
    }

    pub(crate) fn take(&self) -> Option<Message<M>> {
        self.messages.try_recv().ok()
    }
}

/// Names the inbox among the commands of a ring.
pub(crate) const WAKE: CommandTag = CommandTag { epoch: 0, source: u16::MAX, index: 0 };
/// How many messages may wait before their senders do.
const MESSAGES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::thread;

    use blk::{Effect, Event};

    use super::*;

    /// Nobody drives it.
    #[derive(Debug)]
    struct Idle;

    impl Machine for Idle {
        fn handle(&mut self, _: Time, _: Event) {}

        fn poll(&mut self, _: Time, _: &mut Vec<Effect>) {}

        fn wakeup(&self) -> Option<Time> {
            None
        }
    }

    /// Does for an engine what the ring's poll does; with epoll, which interpreters have.
    struct Wait(File);

    impl Wait {
        fn new(inbox: &Inbox<Idle>) -> Self {
            let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
            let mut readable = libc::epoll_event { events, u64: 0 };
            let wake = inbox.wake.as_raw_fd();
            // SAFETY: a new descriptor that belongs to nobody else; the event is only read.
            unsafe {
                let epoll = File::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
                let (fd, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
                assert_eq!(libc::epoll_ctl(fd, add, wake, &raw mut readable), 0);
                Self(epoll)
            }
        }

        fn for_wake(&self) {
            let mut ready = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: fills the one structure that it is given.
            let woken = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut ready, 1, 30_000) };
            assert_eq!(woken, 1, "somebody waits for an answer, and nobody woke the engine");
        }
    }

    fn ask(handle: &Handle<Idle>, times: u32) -> thread::JoinHandle<()> {
        let handle = handle.clone();
        thread::spawn(move || {
            for nr in 0..times {
                assert_eq!(handle.call(move |_, _| nr).unwrap(), nr);
            }
        })
    }

    // ci/sanitize runs these in many orders of their threads' steps.
    #[test]
    fn who_asks_is_answered_whenever_the_engine_looks() {
        let (inbox, handle) = Inbox::new().unwrap();
        let wait = Wait::new(&inbox);
        let askers = [ask(&handle, 3), ask(&handle, 3)];
        let mut open = 6;
        while open > 0 {
            wait.for_wake();
            inbox.clear();
            while let Some(message) = inbox.take() {
                let Message::Call(work) = message else { panic!("nothing else was asked") };
                work(&mut Idle, Time::default());
                open -= 1;
            }
        }
        for asker in askers {
            asker.join().unwrap();
        }
    }

    #[test]
    fn who_asks_an_engine_that_ends_meanwhile_is_told_so() {
        let (inbox, handle) = Inbox::<Idle>::new().unwrap();
        let asker = thread::spawn(move || handle.call(|_, _| ()).is_err());
        drop(inbox);
        assert!(asker.join().unwrap());
    }
}
