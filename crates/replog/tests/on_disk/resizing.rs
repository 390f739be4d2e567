//! A ring that gets another length while it is in use: at every place of a lap, cut at every
//! write, nothing that the log holds is lost (P10), and the older slot finds no less (P11).

use blk::{DevNr, DiskOp, Effect, Sector, Sectors, Seq, SlinkNr, Time};
use replog::format::superblock::Superblock;
use replog::log::Change;
use replog::{EntryOp, OpenError, Readable, Replog, ResizeError, Wait};

use crate::image::Image;
use crate::opening::{carry_out, open, spec_of, tear_slot};
use crate::samples::{device, leg, site};

/// A log at work on a device that is larger, with one site that follows at a distance.
struct Rig {
    image: Image,
    log: Replog,
    /// So many writes are never applied.
    lag: u64,
    /// Effects of one poll that are not carried out yet.
    todo: Vec<(u64, DiskOp)>,
}

/// Blocks of the ring of a log of the smallest size.
const LEAST: u64 = 448;
/// Requests that any log has room for.
const LONGEST: Sectors = Sectors(8);

fn sectors(blocks: u64) -> Sectors {
    Sectors((blocks + 64) * 8)
}

impl Rig {
    fn new(blocks: u64, lag: u64) -> Self {
        let mut image = Image::sized(sectors(blocks));
        image.sb.devices = vec![device(0, "data"), device(1, "logs")];
        image.sb.sites = vec![site(0, |site| site.covered = Seq(0))];
        image.sb.legs = vec![leg(0, 0, "a"), leg(1, 0, "b")];
        image.checkpoint();
        image.checkpoint();
        image.device.resize((64 + sectors(2 * LEAST).0 as usize) * 512, 0x5A);
        let spec = spec_of(&image);
        let mut log = open(&mut image, spec).unwrap();
        log.value_copy(SlinkNr::LOCAL, true, Readable::Yes);
        let mut rig = Self { image, log, lag, todo: Vec::new() };
        rig.settle();
        rig
    }

    /// Asks what is to be done, and does one thing of it.
    fn step(&mut self) -> bool {
        let written = self.log.written();
        self.log.want_durable(written);
        let upto = Seq(written.0.saturating_sub(self.lag)).min(self.log.durable());
        if upto > self.log.covered(SlinkNr::LOCAL) {
            self.log.cover(SlinkNr::LOCAL, upto);
        }
        let mut effects = Vec::new();
        self.log.poll(Time::default(), &mut effects);
        for effect in effects {
            let Effect::Submit { io, op, .. } = effect else { panic!("{effect:?}") };
            self.todo.push((io.nr, op));
        }
        if self.todo.is_empty() {
            return false;
        }
        let (nr, op) = self.todo.remove(0);
        carry_out(&mut self.image, op);
        self.log.done(Time::default(), nr, Ok(()));
        true
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    /// Offers a write that takes one block of the ring.
    fn offer(&mut self) {
        self.offer_of(EntryOp::Discard, 8);
    }

    fn offer_of(&mut self, op: EntryOp, len: u64) {
        let change = Change { dev: DevNr(0), op, sector: Sector(0), len: Sectors(len), fua: false };
        let Ok(admitted) = self.log.admit(&change) else { return };
        if let Some(mut buf) = admitted.payload {
            buf.fill(admitted.seq.0 as u8);
            self.log.fetched(admitted.seq, Ok(()), buf);
        }
    }

    /// Writes go on until the log has `blocks` more behind it.
    fn go_on(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.offer();
            self.settle();
        }
    }

    fn resize(&mut self, blocks: u64) {
        self.log.resize(sectors(blocks), LONGEST).unwrap();
    }

    fn blocks(&self) -> u64 {
        self.log.geometry().ring_bytes() / 4096
    }

    /// A crash at this moment, of the whole device or with one slot torn: what is opened then
    /// has everything; the older slot may also find damage.
    fn crash(&self) {
        let found = self.reopened(|_| ()).unwrap();
        assert_eq!(found.written(), self.written_on_device(), "nothing is lost");
        for slot in 0..2 {
            match self.reopened(|image| tear_slot(image, slot)) {
                Ok(found) => assert_eq!(found.written(), self.written_on_device(), "slot {slot}"),
                Err(OpenError::Damaged { .. }) => {}
                Err(error) => panic!("slot {slot}: {error}"),
            }
        }
    }

    fn reopened(&self, spoil: impl FnOnce(&mut Image)) -> Result<Replog, OpenError> {
        let mut image = self.image.clone();
        spoil(&mut image);
        let spec = spec_of(&image);
        open(&mut image, spec)
    }

    fn written_on_device(&self) -> Seq {
        self.log.written()
    }

    fn slots(&self) -> [Superblock; 2] {
        [0, 1].map(|slot| {
            let at = self.image.geometry.slot(slot).bytes() as usize;
            Superblock::decode(&self.image.device[at..]).unwrap()
        })
    }

    /// Writes on, short and longer ones, with a crash at every effect, until the ring has its
    /// new length and some writes more; the blocks that took.
    fn until_resized(&mut self) -> u64 {
        let begin = self.log.counters().log_bytes;
        let (mut turn, mut after) = (0, 0);
        while after < 4 {
            let resizing = self.log.resizing();
            turn += 1;
            match turn % 3 {
                0 => self.offer_of(EntryOp::Write, 8 * (1 + turn % 5)),
                _ => self.offer(),
            }
            let goes_on = self.step();
            after += u64::from(resizing.is_none());
            if resizing.is_none_or(|it| it.waits_for.is_none()) {
                self.crash();
                let present = self.log.geometry().ring_bytes();
                let said = self.slots().map(|sb| sb.ring_bytes);
                let is_done = self.log.resizing().is_none();
                assert!(!is_done || said == [present; 2], "one slot is not enough: {said:?}");
            }
            assert!(goes_on || resizing.is_none(), "it waits for nothing: {resizing:?}");
            assert!(turn < 20 * LEAST, "it never comes: {resizing:?}");
        }
        self.settle();
        (self.log.counters().log_bytes - begin) / 4096
    }
}

/// Places where something may be wrong, and some between.
fn places(blocks: u64) -> impl Iterator<Item = u64> {
    (0..blocks).filter(move |at| *at < 2 || at + 3 > blocks || at % 151 == 0)
}

#[test]
fn a_ring_becomes_longer_or_shorter_wherever_it_stands_and_a_crash_loses_nothing() {
    for (from, to) in [(LEAST, LEAST + 1), (LEAST, 500), (500, LEAST), (500, LEAST + 1)] {
        for lag in [0, 7, from.min(to) / 2, from.min(to) - 12] {
            for at in places(from) {
                let mut rig = Rig::new(from, lag);
                rig.go_on(from + at);
                rig.resize(to);
                let taken = rig.until_resized();
                assert!(
                    taken <= 2 * from + 40,
                    "{from} to {to}, lag {lag}, at {at}: {taken} writes"
                );
                assert_eq!(rig.blocks(), to);
                assert!(rig.slots().iter().all(|sb| sb.ring_bytes == to * 4096));
                rig.crash();
                for _ in 0..3 {
                    rig.go_on(to / 2 - 1);
                    rig.crash();
                }
            }
        }
    }
}

#[test]
fn an_empty_log_is_resized_at_once_wherever_it_stands() {
    for at in [0, 1, 447, 449, 499] {
        let mut rig = Rig::new(500, 0);
        rig.go_on(at);
        rig.resize(LEAST);
        rig.settle();
        assert_eq!((rig.blocks(), rig.log.resizing()), (LEAST, None), "at {at}");
        rig.crash();
        rig.go_on(2 * LEAST);
        rig.crash();
    }
}

#[test]
fn what_a_site_lacks_over_the_end_of_a_lap_is_waited_for_and_said() {
    let mut rig = Rig::new(LEAST, 0);
    rig.go_on(400);
    rig.lag = 100;
    rig.go_on(90);
    rig.resize(500);
    rig.settle();
    assert_eq!(rig.log.resizing().unwrap().waits_for, Some(Wait::Wrapped(SlinkNr::LOCAL)));
    assert_eq!(rig.log.resizing().unwrap().to, sectors(500));
    rig.crash();
    rig.lag = 0;
    rig.settle();
    assert_eq!(rig.blocks(), 500);

    rig.go_on(470 - 42);
    rig.lag = 20;
    rig.go_on(10);
    rig.resize(LEAST);
    rig.settle();
    assert_eq!(rig.log.resizing().unwrap().waits_for, Some(Wait::Beyond(SlinkNr::LOCAL)));
    rig.lag = 0;
    rig.settle();
    assert_eq!(rig.blocks(), LEAST);
}

#[test]
fn groups_too_long_for_the_new_ring_are_waited_for_and_no_more_are_made() {
    let mut rig = Rig::new(2 * LEAST, 5);
    rig.go_on(10);
    rig.lag = 100;
    rig.offer_of(EntryOp::Write, 8 * 200);
    rig.settle();
    rig.resize(LEAST);
    rig.settle();
    assert_eq!(rig.log.resizing().unwrap().waits_for, Some(Wait::Long(SlinkNr::LOCAL)));
    let change = |blocks: u64| Change {
        dev: DevNr(0),
        op: EntryOp::Write,
        sector: Sector(0),
        len: Sectors(blocks * 8),
        fua: false,
    };
    assert!(rig.log.can_hold(&change(LEAST / 4 - 1)) && !rig.log.can_hold(&change(LEAST / 4)));
    rig.lag = 0;
    rig.settle();
    assert_eq!(rig.blocks(), LEAST);
    rig.crash();
}

#[test]
fn nothing_is_appended_while_the_slots_differ_that_they_would_put_elsewhere() {
    let mut rig = Rig::new(LEAST, 3);
    rig.go_on(LEAST - 3);
    rig.resize(500);
    // The new measures are in one slot.
    rig.offer();
    while rig.slots().iter().all(|sb| sb.ring_bytes == LEAST * 4096) {
        assert!(rig.step());
    }
    rig.offer_of(EntryOp::Write, 8 * 5);
    let mut effects = Vec::new();
    rig.log.poll(Time::default(), &mut effects);
    for effect in &effects {
        let Effect::Submit { op: DiskOp::Write { sector, .. }, .. } = effect else { continue };
        let end = rig.image.geometry.ring_start() + Sectors(LEAST * 8);
        assert!(*sector < end, "behind the shorter ring: {sector}");
    }
    for effect in effects {
        let Effect::Submit { io, op, .. } = effect else { panic!("{effect:?}") };
        rig.todo.push((io.nr, op));
    }
    rig.crash();
    rig.settle();
    assert_eq!(rig.blocks(), 500);
    rig.crash();
}

#[test]
fn what_was_launched_before_under_wider_limits_is_durable_before_they_become_narrower() {
    let mut rig = Rig::new(2 * LEAST, 0);
    rig.go_on(5);
    rig.offer();
    let mut effects = Vec::new();
    rig.log.poll(Time::default(), &mut effects);
    let Some(Effect::Submit { io, op, .. }) = effects.pop() else { panic!("a group is written") };
    rig.resize(LEAST);
    rig.log.poll(Time::default(), &mut effects);
    assert!(effects.is_empty(), "the group is not even written: {effects:?}");
    carry_out(&mut rig.image, op);
    rig.log.done(Time::default(), io.nr, Ok(()));
    rig.log.poll(Time::default(), &mut effects);
    let [Effect::Submit { io, op: DiskOp::Flush, .. }] = effects[..] else { panic!("{effects:?}") };
    rig.log.done(Time::default(), io.nr, Ok(()));
    rig.settle();
    assert_eq!(rig.blocks(), LEAST);
}

#[test]
fn another_size_takes_the_place_of_one_that_waits_and_the_present_one_takes_it_back() {
    let mut rig = Rig::new(LEAST, 0);
    rig.go_on(400);
    rig.lag = 100;
    rig.go_on(90);
    rig.resize(500);
    rig.settle();
    rig.resize(600);
    assert_eq!(rig.log.resizing().unwrap().to, sectors(600));
    rig.resize(LEAST);
    assert_eq!(rig.log.resizing(), None);
    rig.resize(700);
    rig.lag = 0;
    rig.settle();
    assert_eq!(rig.blocks(), 700);
    // One that is asked for while another is being done comes behind it.
    rig.resize(500);
    assert!(rig.step());
    rig.resize(510);
    rig.settle();
    assert_eq!((rig.blocks(), rig.log.resizing()), (510, None));
    rig.crash();
}

#[test]
fn a_log_that_would_have_no_room_for_what_devices_send_is_refused() {
    let mut rig = Rig::new(2 * LEAST, 0);
    let longest = rig.log.geometry().write_max();
    let refused = rig.log.resize(sectors(LEAST), longest).unwrap_err();
    let least = sectors(2 * LEAST);
    assert_eq!(refused, ResizeError::Requests { longest, least, found: sectors(LEAST) });
    let too_small = Sectors(4095);
    let refused = rig.log.resize(too_small, LONGEST).unwrap_err();
    assert_eq!(refused, ResizeError::Size { found: too_small });
    assert_eq!(rig.log.resizing(), None);
}

#[test]
fn a_site_that_a_smaller_ring_could_not_hold_slows_writers_until_it_is_there() {
    let mut rig = Rig::new(2 * LEAST, 0);
    rig.go_on(2 * LEAST - 100);
    rig.lag = 600;
    rig.go_on(600);
    rig.resize(LEAST);
    let before = rig.log.written();
    rig.go_on(3);
    assert_eq!(rig.log.written(), before, "writers wait");
    assert!(!rig.log.is_starved(), "no site is given up for that");
    rig.lag = 400;
    rig.until_resized();
    assert_eq!(rig.blocks(), LEAST);
}
