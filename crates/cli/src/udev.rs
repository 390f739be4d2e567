//! What udev is told of a device, and when it is done with it.
//!
//! ```text
//! /run/replicator-udev/ublkbN   REPLICATOR_NAME=…; root only. There before udev hears of the
//!                               device; dist/udev/59-replicator.rules make its names of it
//! ```
//!
//! The place is the host's, as N is. Nothing here is needed for a device to work: without udev,
//! or without its rules, nobody reads what is written, and nobody is waited for.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::time::{ClockId, clock_gettime};

use crate::links::mangled;
use crate::runtime::{ROOT, check_dir, make_dir};

/// The host's udev, as a daemon sees it.
#[derive(Clone, Debug)]
pub(crate) struct Udev {
    /// Where it is told of devices.
    told: PathBuf,
    /// Its own directory.
    own: PathBuf,
    /// The kernel's devices.
    sysfs: PathBuf,
    owner: u32,
}

/// What udev's rules are to know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    pub(crate) name: &'a str,
    pub(crate) replicator: &'a str,
    /// What it is, whatever it is called.
    pub(crate) identity: &'a str,
    pub(crate) suspended: bool,
}

/// A moment of the clock that udev notes of a device when it is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Udev {
    pub(crate) fn of_host() -> Self {
        let [told, own, sysfs] = [TOLD, OWN, SYSFS].map(PathBuf::from);
        Self { told, own, sysfs, owner: ROOT }
    }

    /// Writes what it will be told at the next event of `/dev/ublkbN`; says whether that is new.
    pub(crate) fn tell(&self, ublk: u32, facts: &Facts<'_>) -> Result<bool> {
        let (path, text) = (self.file(ublk), facts.text());
        let what = || format!("writing {}", path.display());
        make_dir(&self.told)?;
        check_dir(&self.told, self.owner)?;
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return Ok(false);
        }
        // Udev reads a whole one, whenever it comes.
        let new = self.told.join(format!("ublkb{ublk}.new"));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).with_context(what)?;
        Ok(true)
    }

    /// Takes back what it was told of the device `name`, which was `/dev/ublkbN`: by now that may be
    /// another. The last one takes the directory with it.
    pub(crate) fn forget(&self, ublk: u32, name: &str) -> Result<()> {
        let path = self.file(ublk);
        let told = fs::read_to_string(&path).unwrap_or_default();
        if told.lines().next().is_some_and(|line| line != name_line(name)) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
        // It stays while others are in it, and if it never was.
        let _ = fs::remove_dir(&self.told);
        Ok(())
    }

    /// Has it look at `/dev/ublkbN` again. If it can't, its names are as they were.
    pub(crate) fn call(&self, ublk: u32) {
        let path = self.sysfs.join(format!("ublkb{ublk}/uevent"));
        if let Err(error) = fs::write(&path, "change") {
            log::warn!("{}: udev was not told of a change: {error}", path.display());
        }
    }

    /// The same, and at its partitions, whose names are made of its own.
    pub(crate) fn call_with_partitions(&self, ublk: u32) {
        self.call(ublk);
        for part in self.partitions(ublk) {
            if let Err(error) = fs::write(part.join("uevent"), "change") {
                log::warn!("{}: udev was not told of a change: {error}", part.display());
            }
        }
    }

    /// Waits until it knows neither `/dev/ublkbN` nor one of its partitions by `name` any more.
    pub(crate) fn wait_until_not_called(&self, ublk: u32, name: &str) {
        let link = format!("S:replicator/{}", mangled(name));
        let is_it = |line: &str| {
            line.strip_prefix(&link)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("-part"))
        };
        let knows =
            |record: &PathBuf| fs::read_to_string(record).is_ok_and(|text| text.lines().any(is_it));
        let done = || !self.records(ublk).iter().any(knows);
        if self.is_there() && !wait_for(done) {
            let limit = SEEN_LIMIT.as_secs();
            log::warn!(
                "udev has links by the name {name} yet, {limit} s after it was told another"
            );
        }
    }

    /// Waits until it has looked at `/dev/ublkbN` and its partitions after `since`: all their links are there then.
    pub(crate) fn wait_until_seen(&self, ublk: u32, since: Moment) {
        let seen = || self.records(ublk).iter().all(|it| self.looked_at(it) >= Some(since));
        if !self.is_there() || wait_for(seen) {
            return;
        }
        log::warn!(
            "udev has not looked at /dev/ublkb{ublk} within {} s: links by what is on it may come \
             later",
            SEEN_LIMIT.as_secs()
        );
    }

    /// Where it keeps what it knows of `/dev/ublkbN`: to be asked while the device is there.
    pub(crate) fn record(&self, ublk: u32) -> Option<PathBuf> {
        self.records(ublk).into_iter().next()
    }

    /// Waits until it has taken away the links of a device that was there before `since`.
    pub(crate) fn wait_until_gone(&self, record: Option<PathBuf>, since: Moment) {
        let Some(record) = record.filter(|_| self.is_there()) else { return };
        // The number may be another device's by now.
        let gone = || self.looked_at(&record).is_none_or(|looked| looked >= since);
        if !wait_for(gone) {
            log::warn!("udev has not noticed within {} s that a device went", SEEN_LIMIT.as_secs());
        }
    }

    fn file(&self, ublk: u32) -> PathBuf {
        self.told.join(format!("ublkb{ublk}"))
    }

    /// Whether somebody listens where `udevadm control` talks to it: the socket's file stays when
    /// it ends.
    fn is_there(&self) -> bool {
        let connected = SocketAddrUnix::new(self.own.join("control")).and_then(|address| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            connect(&socket, &address)
        });
        connected.is_ok()
    }

    /// The device's, and each of its partitions'.
    fn records(&self, ublk: u32) -> Vec<PathBuf> {
        std::iter::once(self.sysfs.join(format!("ublkb{ublk}")))
            .chain(self.partitions(ublk))
            .filter_map(|device| fs::read_to_string(device.join("dev")).ok())
            .map(|number| self.own.join("data").join(format!("b{}", number.trim())))
            .collect()
    }

    fn partitions(&self, ublk: u32) -> impl Iterator<Item = PathBuf> + use<> {
        let own = self.sysfs.join(format!("ublkb{ublk}"));
        let inside = fs::read_dir(own).into_iter().flatten().flatten().map(|entry| entry.path());
        inside.filter(|path| path.join("partition").exists())
    }

    /// When it was done with a device for the first time.
    fn looked_at(&self, record: &PathBuf) -> Option<Moment> {
        let text = fs::read_to_string(record).ok()?;
        let moment = text.lines().find_map(|line| line.strip_prefix("I:"))?;
        moment.parse().ok().map(Moment)
    }
}

impl Facts<'_> {
    fn text(&self) -> String {
        let group = mangled(self.replicator);
        let (name, uuid) = (name_line(self.name), self.identity);
        let mut text = format!("{name}\nREPLICATOR_GROUP={group}\nREPLICATOR_UUID={uuid}\n");
        if self.suspended {
            text.push_str("REPLICATOR_SUSPENDED=1\n");
        }
        text
    }
}

fn name_line(name: &str) -> String {
    format!("REPLICATOR_NAME={}", mangled(name))
}

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        Self(u64::try_from(micros).expect("this clock begins at zero"))
    }
}

fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + SEEN_LIMIT;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

const TOLD: &str = "/run/replicator-udev";
const OWN: &str = "/run/udev";
const SYSFS: &str = "/sys/block";

/// Udev may be busy with others.
const SEEN_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::OwnedFd;
    use rustix::net::{bind, listen};
    use std::path::Path;

    /// A host with a device 7 that has a partition.
    fn host() -> (tempfile::TempDir, Udev) {
        let home = tempfile::tempdir().unwrap();
        let [told, own, sysfs] = ["told", "udev", "block"].map(|it| home.path().join(it));
        fs::create_dir_all(own.join("data")).unwrap();
        put(&sysfs.join("ublkb7/dev"), "259:3\n");
        put(&sysfs.join("ublkb7/ublkb7p1/dev"), "259:4\n");
        put(&sysfs.join("ublkb7/ublkb7p1/partition"), "1\n");
        put(&sysfs.join("ublkb7/queue/dev"), "none");
        let owner = rustix::process::geteuid().as_raw();
        (home, Udev { told, own, sysfs, owner })
    }

    /// Udev at work.
    fn at_work(udev: &Udev) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(udev.own.join("control")).unwrap()).unwrap();
        listen(&socket, 8).unwrap();
        socket
    }

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn facts(suspended: bool) -> Facts<'static> {
        Facts { name: "a b\"$", replicator: "repl", identity: "5a1e-0", suspended }
    }

    #[test]
    fn what_udev_is_told_is_whole_mangled_and_new_only_once() {
        let (home, udev) = host();
        assert!(udev.tell(7, &facts(false)).unwrap());
        assert!(!udev.tell(7, &facts(false)).unwrap());
        assert!(udev.tell(7, &facts(true)).unwrap());
        let text = fs::read_to_string(home.path().join("told/ublkb7")).unwrap();
        let expected = "REPLICATOR_NAME=a\\x20b\\x22\\x24\nREPLICATOR_GROUP=repl\n\
                        REPLICATOR_UUID=5a1e-0\nREPLICATOR_SUSPENDED=1\n";
        assert_eq!(text, expected);
        udev.tell(8, &facts(false)).unwrap();
        let name = facts(false).name;
        udev.forget(7, name).unwrap();
        udev.forget(8, "another").unwrap();
        assert!(home.path().join("told/ublkb8").exists(), "the number is another device's by now");
        udev.forget(8, name).unwrap();
        udev.forget(8, name).unwrap();
        assert!(!home.path().join("told").exists());
    }

    #[test]
    fn a_device_was_seen_when_each_partition_was_and_not_by_what_was_there_before() {
        let (_home, udev) = host();
        let record = |nr: u32| udev.own.join(format!("data/b259:{nr}"));
        let seen =
            |since| udev.records(7).iter().all(|it| udev.looked_at(it) >= Some(Moment(since)));
        assert!(!seen(5));
        put(&record(3), "S:replicator/x\nI:100\nG:systemd\n");
        assert!(!seen(5), "its partition was not");
        put(&record(4), "I:101\n");
        assert!(seen(5) && seen(100) && !seen(101));
    }

    #[test]
    fn nobody_is_waited_for_where_udev_is_not_at_work() {
        let (_home, udev) = host();
        let began = Instant::now();
        assert!(!udev.is_there());
        let listening = at_work(&udev);
        assert!(udev.is_there());
        drop(listening);
        assert!(udev.own.join("control").exists() && !udev.is_there());
        udev.wait_until_seen(7, Moment::now());
        put(&udev.own.join("data/b259:3"), "I:1\n");
        udev.wait_until_gone(udev.record(7), Moment::now());
        assert!(began.elapsed() < SEEN_LIMIT);
    }

    #[test]
    fn a_device_is_gone_when_its_record_is_or_is_another_s() {
        let (_home, udev) = host();
        let _udev_is = at_work(&udev);
        let (record, since) = (udev.record(7), Moment::now());
        assert!(record.is_some());
        udev.wait_until_gone(record.clone(), since);
        put(record.as_ref().unwrap(), &format!("I:{}\n", Moment::now().0));
        let began = Instant::now();
        udev.wait_until_gone(record, since);
        assert!(began.elapsed() < SEEN_LIMIT);
    }

    #[test]
    fn a_name_is_given_up_when_neither_the_device_nor_a_partition_has_it() {
        let (_home, udev) = host();
        let _udev_is = at_work(&udev);
        let record = |nr: u32| udev.own.join(format!("data/b259:{nr}"));
        put(&record(3), "S:replicator/b\nS:replicator/data2\nI:1\n");
        put(&record(4), "S:replicator/data-part1\nI:1\n");
        udev.call_with_partitions(7);
        for at in ["ublkb7/uevent", "ublkb7/ublkb7p1/uevent"] {
            assert_eq!(fs::read_to_string(udev.sysfs.join(at)).unwrap(), "change");
        }
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                put(&record(4), "S:replicator/b-part1\nI:1\n");
            });
            udev.wait_until_not_called(7, "data");
        });
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(100) && took < SEEN_LIMIT, "{took:?}");
    }

    #[test]
    fn a_change_is_asked_for_where_the_kernel_takes_it() {
        let (_home, udev) = host();
        udev.call(7);
        assert_eq!(fs::read_to_string(udev.sysfs.join("ublkb7/uevent")).unwrap(), "change");
        udev.call(9); // a warning
    }
}
