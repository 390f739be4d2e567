//! What systemd is told of a daemon that is its service: sd_notify(3), datagrams to a socket.
//!
//! A ping of the watchdog is sent by the engine's thread itself, between two of its turns: one
//! that hangs isn't pinged alive. That thread waits for no disk, so only a bug makes it miss one.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The way to the service manager; to nobody where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

/// One ping of the watchdog, to be sent where it shows that something lives.
#[derive(Debug)]
pub(super) struct Ping(Service);

/// A start that goes on, and who is told so now and then.
pub(super) struct Starting<'a> {
    service: &'a Service,
    told: Option<Instant>,
    /// The watchdog runs already, and what it waits for is that this goes on.
    watched: bool,
}

impl Service {
    /// That which started this process, as its environment says.
    pub(super) fn of_environment() -> Result<Self> {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let mine = env::var("WATCHDOG_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        let limit = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let watchdog = limit.filter(|micros| mine && *micros > 0).map(Duration::from_micros);
        Self::at(&path, watchdog).with_context(|| {
            format!("NOTIFY_SOCKET: expected a service manager's socket at {}", path.display())
        })
    }

    fn at(path: &OsStr, watchdog: Option<Duration>) -> Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // The engine sends too, and waits for nobody.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(Arc::new(socket)), watchdog })
    }

    /// Whether there is a service manager, which knows a replicator by its name.
    pub(super) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// The devices are usable.
    pub(super) fn ready(&self, devices: usize) {
        self.tell(&format!("READY=1\nSTATUS=serves {devices} devices"));
    }

    /// It ends; the sites may take a while.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ends");
    }

    /// Another program may be about to go on: the watchdog waits anew.
    pub(super) fn upgrading(&self) {
        self.tell("WATCHDOG=1");
    }

    pub(super) fn starting(&self) -> Starting<'_> {
        Starting { service: self, told: None, watched: false }
    }

    /// A start in the process of a service that has started long ago.
    pub(super) fn going_on(&self) -> Starting<'_> {
        Starting { watched: true, ..self.starting() }
    }

    /// Pings the watchdog, if there is one, as long as `on_engine` has the engine's thread send
    /// what it is given.
    pub(super) fn keep_alive<F>(&self, on_engine: F) -> Result<()>
    where
        F: Fn(Ping) -> Result<()> + Send + 'static,
    {
        let Some(limit) = self.watchdog else { return Ok(()) };
        let (service, pause) = (self.clone(), limit / PINGS_IN_TIME);
        let beat = move || {
            while on_engine(Ping(service.clone())).is_ok() {
                thread::sleep(pause);
            }
        };
        let thread = thread::Builder::new().name("watchdog".into()).spawn(beat);
        thread.map(drop).context("starting the thread for the watchdog")
    }

    fn tell(&self, words: &str) {
        // If it can't be told, it acts as if it had not been: no reason to do anything here.
        let _ = self.socket.as_ref().map(|socket| socket.send(words.as_bytes()));
    }
}

impl Ping {
    pub(super) fn send(self) {
        self.0.tell("WATCHDOG=1");
    }
}

impl Starting<'_> {
    /// It goes on: a log that takes long to read is no start that hangs.
    pub(super) fn goes_on(&mut self, step: &str) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_PAUSE) {
            return;
        }
        self.told = Some(Instant::now());
        let more = MORE_TIME.as_micros();
        let ping = if self.watched { "\nWATCHDOG=1" } else { "" };
        self.service.tell(&format!("EXTEND_TIMEOUT_USEC={more}\nSTATUS={step}{ping}"));
    }
}

/// How many pings fit into the time after which the watchdog gives up.
const PINGS_IN_TIME: u32 = 4;
const TELL_PAUSE: Duration = Duration::from_secs(1);
/// Longer than a single step of a start takes.
const MORE_TIME: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::sync::mpsc::{Sender, channel};

    use anyhow::anyhow;

    /// A service manager, and the way to it.
    fn manager(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Service) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let service = Service::at(path.as_os_str(), watchdog).unwrap();
        (home, socket, service)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    fn hears_nothing(socket: &UnixDatagram, time: Duration) -> bool {
        socket.set_read_timeout(Some(time)).unwrap();
        socket.recv(&mut [0; 256]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// A thread that does what it is given, as the engine's does.
    fn engine() -> Sender<Box<dyn FnOnce() + Send>> {
        let (sender, work) = channel::<Box<dyn FnOnce() + Send>>();
        thread::spawn(move || work.iter().for_each(|work| work()));
        sender
    }

    fn on(
        engine: &Sender<Box<dyn FnOnce() + Send>>,
    ) -> impl Fn(Ping) -> Result<()> + Send + 'static {
        let engine = engine.clone();
        move |ping| {
            let (done, ended) = channel();
            let work = move || {
                ping.send();
                let _ = done.send(());
            };
            engine.send(Box::new(work)).map_err(|_| anyhow!("gone"))?;
            ended.recv().map_err(|_| anyhow!("gone"))
        }
    }

    #[test]
    fn a_start_asks_for_more_time_now_and_then_and_says_when_it_is_done() {
        let (_home, socket, service) = manager(None);
        service.going_on().goes_on("recovering");
        let told = heard(&socket);
        assert_eq!(told, "EXTEND_TIMEOUT_USEC=90000000\nSTATUS=recovering\nWATCHDOG=1");
        let mut starting = service.starting();
        starting.goes_on("reading the log");
        starting.goes_on("reading more of it");
        service.ready(2);
        service.stopping();
        assert_eq!(heard(&socket), "EXTEND_TIMEOUT_USEC=90000000\nSTATUS=reading the log");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=serves 2 devices");
        assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=ends");
    }

    #[test]
    fn an_engine_that_turns_is_pinged_alive_and_one_that_hangs_is_not() {
        let (_home, socket, service) = manager(Some(Duration::from_millis(200)));
        let engine = engine();
        service.keep_alive(on(&engine)).unwrap();
        for _ in 0..4 {
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
        let (go_on, hangs) = channel::<()>();
        engine.send(Box::new(move || hangs.recv().unwrap())).unwrap();
        // One may have been under way.
        let _ = hears_nothing(&socket, Duration::from_millis(100));
        assert!(hears_nothing(&socket, Duration::from_millis(600)), "pinged while it hung");
        go_on.send(()).unwrap();
        assert!(!hears_nothing(&socket, Duration::from_secs(10)), "not pinged after that");
    }

    #[test]
    fn nobody_is_pinged_without_a_watchdog_and_nobody_told_without_a_service_manager() {
        let (_home, socket, service) = manager(None);
        service.keep_alive(|_| panic!("nobody asked for it")).unwrap();
        assert!(hears_nothing(&socket, Duration::from_millis(50)));
        Service::default().ready(1);
    }

    #[test]
    fn a_socket_may_be_abstract_and_one_that_is_not_there_is_an_error() {
        let name = format!("replicator-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Service::at(OsStr::new(&format!("@{name}")), None).unwrap().ready(1);
        assert_eq!(heard(&socket), "READY=1\nSTATUS=serves 1 devices");
        assert!(Service::at(OsStr::new("/nowhere/notify"), None).is_err());
    }
}
