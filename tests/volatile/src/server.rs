//! Sessions of clients with the disks of a rig.
//!
//! Of what a client has in flight, anything may be done first, as on a disk with a queue: a flush
//! need not cover a write that had not ended when it was asked for.

use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::protocol::{self, Command, EIO};
use crate::rig::Rig;
use crate::seed::Seed;

/// How long a disk lets commands gather, now and then, before it takes one.
const PAUSE: Duration = Duration::from_micros(300);

/// A rig that is shared by its sessions.
pub(crate) struct Server {
    rig: Mutex<Rig>,
    sessions: Mutex<u64>,
    fewer: Condvar,
}

/// What a client waits for.
#[derive(Default)]
struct Queue {
    commands: Mutex<(Vec<Command>, bool)>,
    more: Condvar,
}

impl Server {
    pub(crate) fn new(rig: Rig) -> Arc<Self> {
        Arc::new(Self { rig: Mutex::new(rig), sessions: Mutex::new(0), fewer: Condvar::new() })
    }

    pub(crate) fn rig(&self) -> MutexGuard<'_, Rig> {
        self.rig.lock().expect("nobody panics with the disks in his hands")
    }

    /// Takes clients, for ever.
    pub(crate) fn accept(self: &Arc<Self>, listener: &UnixListener) -> Result<()> {
        for (number, stream) in (0..).zip(listener.incoming()) {
            let (stream, server) = (stream?, Arc::clone(self));
            *lock(&self.sessions) += 1;
            thread::spawn(move || {
                if let Err(error) = server.session(stream, Seed::new(number)) {
                    eprintln!("a session ended: {error:#}");
                }
                *lock(&server.sessions) -= 1;
                server.fewer.notify_all();
            });
        }
        Ok(())
    }

    /// Waits until no client is connected.
    pub(crate) fn wait_until_idle(&self) {
        let sessions = lock(&self.sessions);
        drop(self.fewer.wait_while(sessions, |count| *count > 0));
    }

    fn session(self: &Arc<Self>, mut stream: UnixStream, seed: Seed) -> Result<()> {
        let found = protocol::handshake(&mut stream, |name| self.rig().find(name))?;
        let Some((disk, size)) = found else { return Ok(()) };
        let queue = Arc::new(Queue::default());
        let worker = {
            let (queue, server, stream) =
                (Arc::clone(&queue), Arc::clone(self), stream.try_clone()?);
            thread::spawn(move || server.work(disk, &queue, stream, seed))
        };
        let mut stream = BufReader::new(stream);
        // A client that was killed says no good-bye.
        while let Ok(Some(command)) = protocol::command(&mut stream, size) {
            queue.push(command);
        }
        queue.close();
        worker.join().expect("the worker does not panic")
    }

    fn work(
        &self,
        disk: usize,
        queue: &Queue,
        mut stream: UnixStream,
        mut seed: Seed,
    ) -> Result<()> {
        while let Some(command) = queue.pop(&mut seed) {
            let end = match &command.request {
                Err(error) => Err(*error),
                Ok(request) => match self.rig().ask(disk, request) {
                    Ok(Ok(bytes)) => Ok(bytes),
                    Ok(Err(_dead)) => return Ok(()),
                    Err(error) => {
                        eprintln!("disk {disk}: {error:#}");
                        Err(EIO)
                    }
                },
            };
            // Whoever is gone wants no reply.
            let end = end.as_deref().map_err(|error| *error);
            protocol::reply(&mut stream, command.handle, end).ok();
        }
        Ok(())
    }
}

impl Queue {
    fn push(&self, command: Command) {
        lock(&self.commands).0.push(command);
        self.more.notify_one();
    }

    fn close(&self) {
        lock(&self.commands).1 = true;
        self.more.notify_one();
    }

    /// Any of what waits; none when it was closed and is empty.
    fn pop(&self, seed: &mut Seed) -> Option<Command> {
        if seed.below(4) == 0 {
            thread::sleep(PAUSE);
        }
        let waiting = lock(&self.commands);
        let mut waiting = self
            .more
            .wait_while(waiting, |(commands, closed)| commands.is_empty() && !*closed)
            .expect("nobody panics with the queue in his hands");
        let count = waiting.0.len() as u64;
        (count > 0).then(|| waiting.0.swap_remove(seed.below(count) as usize))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it in his hands")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SECTOR;
    use std::fs;
    use std::io::{Read, Write};
    use tempfile::TempDir;

    const READ: u16 = 0;
    const WRITE: u16 = 1;
    const FLUSH: u16 = 3;
    const ZEROES: u16 = 6;

    /// As QEMU speaks.
    struct Client {
        stream: UnixStream,
        handle: u64,
    }

    impl Client {
        fn connect(home: &TempDir, name: &str) -> Self {
            let mut stream = UnixStream::connect(home.path().join("socket")).unwrap();
            let mut hello = [0; 18];
            stream.read_exact(&mut hello).unwrap();
            assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
            stream.write_all(&3_u32.to_be_bytes()).unwrap();
            // Structured replies, which it does without.
            assert_eq!(Self::option(&mut stream, 8, &[]), 0x8000_0001);
            let mut go = (name.len() as u32).to_be_bytes().to_vec();
            go.extend(name.as_bytes());
            go.extend([0, 1, 0, 3]);
            let mut kind = Self::option(&mut stream, 7, &go);
            while kind == 3 {
                kind = Self::answer(&mut stream);
            }
            assert_eq!(kind, 1, "{name}");
            Self { stream, handle: 0 }
        }

        fn option(stream: &mut UnixStream, option: u32, data: &[u8]) -> u32 {
            let mut bytes = b"IHAVEOPT".to_vec();
            bytes.extend(option.to_be_bytes());
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(data);
            stream.write_all(&bytes).unwrap();
            Self::answer(stream)
        }

        fn answer(stream: &mut UnixStream) -> u32 {
            let mut head = [0; 20];
            stream.read_exact(&mut head).unwrap();
            let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
            stream.read_exact(&mut vec![0; word(16) as usize]).unwrap();
            word(12)
        }

        fn send(&mut self, kind: u16, flags: u16, offset: u64, length: u32, bytes: &[u8]) {
            self.handle += 1;
            let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
            request.extend(flags.to_be_bytes());
            request.extend(kind.to_be_bytes());
            request.extend(self.handle.to_be_bytes());
            request.extend(offset.to_be_bytes());
            request.extend(length.to_be_bytes());
            request.extend(bytes);
            self.stream.write_all(&request).unwrap();
        }

        /// The error number of the next reply.
        fn ended(&mut self) -> u32 {
            let mut reply = [0; 16];
            self.stream.read_exact(&mut reply).unwrap();
            u32::from_be_bytes(reply[4..8].try_into().unwrap())
        }

        fn write(&mut self, sector: u64, byte: u8) {
            self.send(WRITE, 0, sector * SECTOR as u64, SECTOR as u32, &[byte; SECTOR]);
            assert_eq!(self.ended(), 0);
        }
    }

    fn server(names: &[&str]) -> (TempDir, Arc<Server>) {
        let home = tempfile::tempdir().unwrap();
        let mut rig = Rig::new();
        for name in names {
            fs::write(home.path().join(name), [0; 64 * SECTOR]).unwrap();
            rig.add(name, &home.path().join(name)).unwrap();
        }
        let server = Server::new(rig);
        let listener = UnixListener::bind(home.path().join("socket")).unwrap();
        let accepting = Arc::clone(&server);
        thread::spawn(move || accepting.accept(&listener));
        (home, server)
    }

    #[test]
    fn a_client_reads_what_it_wrote_and_a_cut_takes_what_it_did_not_flush() {
        let (home, server) = server(&["a", "b"]);
        let mut client = Client::connect(&home, "b");
        client.write(3, 1);
        client.send(FLUSH, 0, 0, 0, &[]);
        assert_eq!(client.ended(), 0);
        client.write(4, 2);
        client.send(READ, 0, 3 * 512, 1024, &[]);
        assert_eq!(client.ended(), 0);
        let mut read = [0; 1024];
        client.stream.read_exact(&mut read).unwrap();
        assert_eq!((read[0], read[512]), (1, 2));

        server.rig().arm("cut 1 0 lost".parse().unwrap());
        client.send(WRITE, 1, 0, 512, &[9; SECTOR]);
        drop(client);
        server.wait_until_idle();
        let image = fs::read(home.path().join("b")).unwrap();
        assert_eq!((image[0], image[3 * 512], image[4 * 512]), (0, 1, 0));
        assert!(fs::read(home.path().join("a")).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_is_beyond_the_end_or_askew_is_an_error_and_zeroes_are_zeroes() {
        let (home, server) = server(&["a"]);
        let mut client = Client::connect(&home, "a");
        client.write(0, 1);
        client.send(ZEROES, 1, 0, 512, &[]);
        assert_eq!(client.ended(), 0);
        client.send(WRITE, 0, 64 * 512, 512, &[1; SECTOR]);
        assert_eq!(client.ended(), 22);
        client.send(READ, 0, 100, 512, &[]);
        assert_eq!(client.ended(), 22);
        drop(client);
        server.wait_until_idle();
        assert_eq!(fs::read(home.path().join("a")).unwrap()[0], 0);
    }

    #[test]
    fn a_flush_in_flight_beside_a_write_need_not_cover_it() {
        let (mut covered, mut not) = (0, 0);
        let (home, server) = server(&["a"]);
        let mut client = Client::connect(&home, "a");
        for round in 0..400_u32 {
            let byte = (round % 250) as u8 + 1;
            client.send(WRITE, 0, 0, 512, &[byte; SECTOR]);
            client.send(FLUSH, 0, 0, 0, &[]);
            assert_eq!((client.ended(), client.ended()), (0, 0));
            let image = fs::read(home.path().join("a")).unwrap();
            *if image[0] == byte { &mut covered } else { &mut not } += 1;
        }
        drop(client);
        server.wait_until_idle();
        assert!(covered > 20 && not > 5, "{covered} {not}");
    }
}
