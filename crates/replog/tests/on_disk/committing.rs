//! When a group goes to the ring, and what makes it durable: what waits for others to come, for
//! how long, and who goes with FUA.

use blk::{BLOCK_BYTES, Buf, DevNr, DiskOp, Effect, Sector, Sectors, Seq, SlinkNr, Span, Time};
use replog::format::group::EntryOp;
use replog::{Change, Replog};

use crate::standing::opened;

/// The number of the I/O that writes a group.
const GROUP_IO: u64 = 0;

/// An open log at a disk that ends what it is asked when the test says so.
pub(crate) struct Log {
    pub(crate) replog: Replog,
    pub(crate) now: Time,
    /// Where the next write goes: no two of them overlap.
    sector: Sector,
}

impl Log {
    pub(crate) fn opened() -> Self {
        let (_, replog) = opened();
        assert_eq!(replog.durable(), replog.written(), "all that was found is durable");
        Self { replog, now: Time::default(), sector: Sector(0) }
    }

    pub(crate) fn after(&mut self, micros: u64) {
        self.now = self.now + Span::from_micros(micros);
    }

    /// A write of so many bytes comes, with its payload.
    pub(crate) fn comes(&mut self, bytes: u64, fua: bool) -> Seq {
        let len = Sectors::from_bytes(bytes);
        let change = Change::new(DevNr(0), EntryOp::Write, self.sector, len, fua);
        self.sector = self.sector + len;
        let admitted = self.replog.admit(&change).unwrap();
        self.replog.came(self.now);
        self.replog.fetched(admitted.seq, Ok(()), admitted.payload.unwrap());
        admitted.seq
    }

    pub(crate) fn write(&mut self) -> Seq {
        self.comes(4096, false)
    }

    /// What is asked of the disk by now.
    pub(crate) fn asked(&mut self) -> Vec<(u64, DiskOp)> {
        let mut effects = Vec::new();
        self.replog.poll(self.now, &mut effects);
        let submitted = |effect| match effect {
            Effect::Submit { io, op, .. } => (io.nr, op),
            other => panic!("{other:?}"),
        };
        effects.into_iter().map(submitted).collect()
    }

    /// The one group that goes now, and whether with FUA.
    pub(crate) fn launches(&mut self) -> (u64, bool) {
        match &self.asked()[..] {
            [(nr, DiskOp::Write { fua, .. })] => (*nr, *fua),
            other => panic!("one group was to go: {other:?}"),
        }
    }

    /// All that is asked ends at once. The length of the group among it, and whether it had FUA.
    fn group_that_goes(&mut self) -> (usize, bool) {
        let mut groups = Vec::new();
        for (nr, op) in self.asked() {
            if let (GROUP_IO, DiskOp::Write { data, fua, .. }) = (nr, op) {
                groups.push((data.iter().map(Buf::len).sum(), fua));
            }
            self.ends(nr);
        }
        assert_eq!(groups.len(), 1);
        groups[0]
    }

    pub(crate) fn ends(&mut self, nr: u64) {
        self.replog.done(self.now, nr, Ok(()));
    }

    /// A group of what has come goes, and arrives after `micros`.
    pub(crate) fn commits(&mut self, micros: u64) {
        let (nr, _) = self.launches();
        self.after(micros);
        self.ends(nr);
    }

    /// So often two writers have a group written in 400 µs, and are back 50 µs after that.
    fn two_who_come_back(&mut self) {
        for _ in 0..10 {
            self.write();
            self.write();
            self.commits(400);
            self.replog.acknowledged(self.now, 2);
            self.after(50);
        }
        self.write();
        self.write();
        self.commits(400);
    }
}

#[test]
fn a_lone_write_that_is_to_be_on_media_goes_with_fua_and_is_durable_when_it_arrives() {
    let mut log = Log::opened();
    let seq = log.comes(4096, true);
    let (nr, fua) = log.launches();
    assert!(fua && log.replog.durable() < seq);
    log.ends(nr);
    assert_eq!((log.replog.written(), log.replog.durable()), (seq, seq));
}

#[test]
fn a_lone_write_that_a_site_is_waited_for_with_goes_with_fua() {
    let mut log = Log::opened();
    log.replog.site_is_waited_for(Some(log.replog.written()));
    let seq = log.write();
    let (nr, fua) = log.launches();
    log.ends(nr);
    assert_eq!((fua, log.replog.durable()), (true, seq));
}

#[test]
fn a_lone_write_that_nobody_wants_on_media_goes_without_and_is_not_durable() {
    let mut log = Log::opened();
    let before = log.replog.durable();
    let seq = log.write();
    let (nr, fua) = log.launches();
    log.ends(nr);
    assert_eq!((fua, log.replog.written(), log.replog.durable()), (false, seq, before));
}

#[test]
fn writes_that_share_a_group_share_a_flush() {
    let mut log = Log::opened();
    let before = log.replog.durable();
    log.write();
    let seq = log.comes(4096, true);
    let (nr, fua) = log.launches();
    log.ends(nr);
    assert_eq!((fua, log.replog.durable()), (false, before));
    log.replog.want_durable(seq);
    let asked = log.asked();
    let [(nr, DiskOp::Flush)] = asked[..] else { panic!("{asked:?}") };
    log.ends(nr);
    assert_eq!(log.replog.durable(), seq);
}

/// FUA would say nothing of the one before, which may still be in a cache.
#[test]
fn a_write_with_fua_behind_one_that_is_not_durable_goes_without() {
    let mut log = Log::opened();
    let before = log.replog.durable();
    log.write();
    log.commits(100);
    log.comes(4096, true);
    let (nr, fua) = log.launches();
    log.ends(nr);
    assert_eq!((fua, log.replog.durable()), (false, before));
}

#[test]
fn a_write_with_fua_behind_a_pad_goes_without() {
    let mut log = Log::opened();
    let bytes = log.replog.geometry().group_bytes_max();
    // What was opened has some blocks: no lap has room for four groups of a quarter of it.
    for _ in 0..4 {
        let before = log.replog.durable();
        let seq = log.comes(bytes - BLOCK_BYTES as u64, true);
        let first = log.group_that_goes();
        if first == (BLOCK_BYTES, false) {
            assert_eq!(log.replog.durable(), before, "it was the pad");
            assert_eq!(log.group_that_goes(), (bytes as usize, false));
            return assert_eq!((log.replog.written(), log.replog.durable()), (seq, before));
        }
        assert_eq!((first, log.replog.durable()), ((bytes as usize, true), seq));
        for site in [SlinkNr::LOCAL, SlinkNr(1)] {
            log.replog.cover(site, seq);
        }
    }
    panic!("no lap ended");
}

#[test]
fn a_group_waits_for_writers_who_come_back_and_goes_when_they_are_there() {
    let mut log = Log::opened();
    log.two_who_come_back();
    log.replog.acknowledged(log.now, 2);
    log.write();
    assert!(log.asked().is_empty() && log.replog.is_held());
    let before = log.replog.written();
    let second = log.write();
    let (nr, _) = log.launches();
    log.ends(nr);
    assert_eq!((second, log.replog.written()), (before.next().next(), second), "both in one");
}

/// Nothing else happens: the log itself says when it is to be asked again.
#[test]
fn a_group_goes_by_itself_when_nobody_comes_back() {
    let mut log = Log::opened();
    log.two_who_come_back();
    log.replog.acknowledged(log.now, 2);
    log.write();
    assert!(log.asked().is_empty() && log.replog.is_held());
    let wakeup = log.replog.wakeup().unwrap();
    let waited = wakeup.since(log.now);
    assert!(waited > Span::default() && waited <= Span::from_micros(100), "{waited:?} of 400 µs");
    log.now = wakeup;
    log.launches();
    assert!(!log.replog.is_held());
}

#[test]
fn a_group_waits_for_nobody_who_was_not_acknowledged() {
    let mut log = Log::opened();
    log.two_who_come_back();
    log.write();
    log.launches();
}

#[test]
fn writers_are_not_waited_for_once_they_stay_away() {
    let mut log = Log::opened();
    log.two_who_come_back();
    let mut waited = 0;
    for _ in 0..10 {
        log.replog.acknowledged(log.now, 2);
        log.write();
        if log.asked().is_empty() {
            waited += 1;
            log.now = log.replog.wakeup().unwrap();
            log.commits(400);
        } else {
            assert!(!log.replog.is_held());
            return assert!((1..=3).contains(&waited), "{waited} times");
        }
    }
    panic!("it waits for ever for those who do not come");
}

#[test]
fn a_group_that_is_large_goes_at_once() {
    let mut log = Log::opened();
    log.two_who_come_back();
    log.replog.acknowledged(log.now, 2);
    log.comes(256 * 1024 - 2 * BLOCK_BYTES as u64, false);
    assert!(log.asked().is_empty() && log.replog.is_held());
    log.comes(4096, false);
    log.replog.acknowledged(log.now, 1);
    log.launches();
}

/// A site that is waited for is at group one, and two comes next.
fn a_site_with_enough_to_do(log: &mut Log) -> Seq {
    let has = log.replog.written();
    log.write();
    log.commits(100);
    log.write();
    log.commits(100);
    log.replog.site_is_waited_for(Some(has));
    has
}

#[test]
fn a_group_waits_while_a_site_has_one_to_apply_and_one_behind_it() {
    let mut log = Log::opened();
    let has = a_site_with_enough_to_do(&mut log);
    log.write();
    assert!(log.asked().is_empty() && log.replog.is_held());
    log.after(10_000);
    assert!(log.asked().is_empty() && log.replog.is_held());
    log.replog.site_is_waited_for(Some(has.next()));
    log.launches();
}

#[test]
fn a_group_waits_for_a_site_no_longer_than_50_ms() {
    let mut log = Log::opened();
    a_site_with_enough_to_do(&mut log);
    let until = log.now + Span::from_millis(50);
    log.after(1000);
    log.write();
    assert!(log.asked().is_empty());
    assert_eq!(log.replog.wakeup(), Some(until));
    log.now = until;
    log.launches();
}

#[test]
fn a_group_waits_for_no_site_that_has_all() {
    let mut log = Log::opened();
    a_site_with_enough_to_do(&mut log);
    log.replog.site_is_waited_for(Some(log.replog.written()));
    log.write();
    log.launches();
}

#[test]
fn a_group_waits_for_no_site_that_nobody_waits_for() {
    let mut log = Log::opened();
    a_site_with_enough_to_do(&mut log);
    log.replog.site_is_waited_for(None);
    log.write();
    log.launches();
}
