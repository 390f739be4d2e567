//! Another size for the log while devices are in use: nothing is lost, at any cut, and one that
//! waits says for what.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Op, Sector, Sectors};
use host::{Fault, Host, assert_same};
use replicator::{LogWish, Phase, Relog, why};

const LOG: DiskId = DiskId(0);
const RD: DiskId = DiskId(2);

fn say(host: &mut Host, words: &str) -> Result<String, String> {
    let words: Vec<&str> = words.split(' ').collect();
    host.machine.message(host.now, None, &words).map_err(|error| error.to_string())
}

fn size(host: &Host) -> u64 {
    host.machine.log().unwrap().geometry().size().0
}

/// Writes one at a time, with what is to be read then.
struct Load {
    model: Vec<u8>,
    round: u64,
}

impl Load {
    fn new() -> Self {
        Self { model: vec![0; 4096 * 512], round: 0 }
    }

    fn go_on(&mut self, host: &mut Host, writes: u64) {
        for _ in 0..writes {
            self.write(host);
            host.run();
        }
    }

    fn write(&mut self, host: &mut Host) {
        let round = self.round;
        let (sector, len) = ((round * 517) % 3900, 1 + round % 128);
        host.write(sector, len, round as u8);
        self.model[sector as usize * 512..][..len as usize * 512].fill(round as u8);
        self.round += 1;
    }

    fn check(&self, host: &mut Host) {
        assert_eq!(host.errors(), 0);
        assert_same(&host.read(0, 4096), &self.model);
    }
}

#[test]
fn a_log_grows_and_shrinks_in_use_again_and_again_and_every_read_is_right() {
    for policy in ["async", "sync"] {
        let mut host = Host::new("create", policy, Host::blank());
        let mut load = Load::new();
        load.go_on(&mut host, 30);
        for to in [8192, 4096, 5000, 7000, 4096, 8192, 8000] {
            let said = say(&mut host, &format!("replog resize {to}")).unwrap();
            assert!(said.contains(&format!("is to be {to}\n")), "{said}");
            load.go_on(&mut host, 1);
            assert_eq!(size(&host), to - to % 8);
            assert_eq!(host.machine.status(host.now).log.unwrap().resize, None);
            load.go_on(&mut host, 150);
            load.check(&mut host);
        }
        assert_eq!(host.machine.plan().group().table.log.size.unwrap().0, 8000);
        assert_same(host.device_bytes(1), &load.model);
        assert_same(host.device_bytes(2), &load.model);
        host.machine.stop(true);
        host.run();
        let sites = format!("blockdev 2 0 {policy} blockdev 2 1 {policy}");
        let mut again =
            Host::of(&sites, "open 8000", "1 1 /rd0 core 2 8 nosync", host.disks, BTreeMap::new());
        assert!(matches!(again.machine.phase(), Phase::Running), "{:?}", again.machine.phase());
        assert_same(&again.read(0, 4096), &load.model);
    }
}

#[test]
fn another_log_takes_the_place_of_one_that_was_resized_and_is_lost() {
    let mut host = Host::new("create", "async", Host::blank());
    let mut load = Load::new();
    for to in [8192, 5000, 8192] {
        load.go_on(&mut host, 70);
        say(&mut host, &format!("replog resize {to}")).unwrap();
    }
    load.go_on(&mut host, 10);
    assert!(host.machine.log().unwrap().geometry().lap_base().0 > 0, "laps begin elsewhere");
    host.faults.insert(LOG, Fault::Fails);
    load.go_on(&mut host, 10);
    let refused = say(&mut host, "replog resize 4096").unwrap_err();
    assert!(refused.contains("the log is lost"), "{refused}");
    host.faults.clear();
    let (uuid, path) = (uuid::Uuid::from_u128(8), "/log".to_owned());
    let wish = LogWish {
        disk: LOG,
        path,
        start: Sector(0),
        size: Some(Sectors(8192)),
        uuid,
        is_named: true,
    };
    host.machine.replace_log(wish).unwrap();
    host.run();
    assert_eq!(host.machine.relog(), Relog::Done);
    load.go_on(&mut host, 150);
    load.check(&mut host);
    let host = Host::again(
        (
            "blockdev 2 0 async blockdev 2 1 async",
            "open 8192",
            "nolog 0",
            "1 1 /rd0 core 2 8 nosync",
        ),
        host.disks,
        BTreeMap::new(),
        host.kept,
    );
    load.check(&mut { host });
}

/// Where the log stands before it is resized: in several places of a lap.
const BEFORE: [u64; 3] = [3, 29, 55];

#[test]
fn a_crash_at_any_effect_of_a_resize_opens_with_one_size_or_the_other_and_loses_nothing() {
    let mut found = BTreeMap::<u64, u64>::new();
    for (from, to) in [(4096, 6000), (8000, 6000)] {
        for before in BEFORE {
            for cut in 0..80 {
                let size = cut_at(from, to, before, cut);
                *found.entry(size).or_default() += 1;
            }
        }
    }
    assert!(found.len() == 3 && found.values().all(|times| *times > 5), "{found:?}");
}

/// A log of `from` sectors is to have `to`, and the host dies after `cut` effects; the size that
/// is found then.
fn cut_at(from: u64, to: u64, before: u64, cut: u64) -> u64 {
    // The far site is slow to be there, so that the log holds something.
    let faults = BTreeMap::from([(RD, Fault::Absent)]);
    let sites = "blockdev 1 0 blockdev 1 1";
    let remote = "1 1 /rd0 core 2 8 nosync";
    let mut host = Host::of(sites, "create 4096", remote, Host::blank(), BTreeMap::new());
    say(&mut host, &format!("replog resize {from}")).unwrap();
    let mut load = Load::new();
    load.go_on(&mut host, before);
    host.faults = faults;
    load.go_on(&mut host, 4);
    host.faults.clear();
    let mut acked = load.model.clone();
    // It comes between writes that are under way.
    load.write(&mut host);
    say(&mut host, &format!("replog resize {to}")).unwrap();
    host.effects_left = Some(cut);
    for _ in 0..6 {
        load.write(&mut host);
        let flush = host.ask(Op::Flush, None);
        host.run();
        if host.effects_left == Some(0) {
            break;
        }
        assert_eq!(host.ended[&flush], Ok(()));
        acked.clone_from(&load.model);
    }
    let found: Vec<u64> =
        [from, to].into_iter().filter(|size| opens(&host, *size, &acked)).collect();
    assert_eq!(found.len(), 1, "{from} to {to}, {before} before, cut at {cut}: {found:?}");
    found[0]
}

fn opens(host: &Host, size: u64, acked: &[u8]) -> bool {
    let remote = "1 1 /rd0 core 2 8 nosync";
    let sites = "blockdev 1 0 blockdev 1 1";
    let disks = host.disks.clone();
    let mut again = Host::of(sites, &format!("open {size}"), remote, disks, BTreeMap::new());
    if !matches!(again.machine.phase(), Phase::Running) {
        let Phase::Failed(error) = again.machine.phase() else { panic!("it opens, or not") };
        assert!(error.to_string().contains("the table says"), "{error}");
        return false;
    }
    // What was under way may be there or not, sector by sector.
    let read = again.read(0, 4096);
    let in_flight = |at: usize| read[at * 512] != acked[at * 512];
    let differing = (0..4096).filter(|at| in_flight(*at)).count();
    assert!(differing <= 2 * 128, "{differing} sectors are not what was acknowledged");
    true
}

/// A site that is down, and has not got what lies over the end of a lap.
fn wrapped() -> (Host, Load) {
    let sites = "blockdev 1 0 blockdev 1 1";
    let mut host =
        Host::of(sites, "create 4096", "1 1 /rd0 core 2 8 nosync", Host::blank(), BTreeMap::new());
    let mut load = Load::new();
    let in_lap = |host: &Host| {
        let ring = host.machine.log().unwrap().ring_statistics();
        ring.next_avail.0 - ring.start.0
    };
    while in_lap(&host) < 3000 {
        load.go_on(&mut host, 1);
    }
    host.faults.insert(RD, Fault::Absent);
    while in_lap(&host) >= 3000 {
        load.go_on(&mut host, 1);
    }
    (host, load)
}

#[test]
fn a_resize_that_waits_for_a_site_says_so_and_is_done_when_it_has_what_it_lacks() {
    let (mut host, mut load) = wrapped();
    let said = say(&mut host, "replog resize 8192").unwrap();
    let waits = "the log has 4096 sectors, and waits until site 1 has what lies before the end \
                 of the ring's last lap to have 8192";
    assert!(said.contains(waits), "{said}");
    let status = host.machine.status(host.now);
    assert!(status.replicator_line().contains(" resize:8192"), "{}", status.replicator_line());
    let reasons = why(&status);
    assert!(reasons.iter().any(|it| it.to_string() == waits), "{reasons:?}");
    load.go_on(&mut host, 3);
    assert_eq!(size(&host), 4096);
    host.faults.clear();
    load.go_on(&mut host, 1);
    assert_eq!(size(&host), 8192);
    assert!(!host.machine.status(host.now).replicator_line().contains("resize:"));
    load.check(&mut host);
    assert_same(host.device_bytes(2), &load.model);
}

#[test]
fn another_size_takes_the_place_of_one_that_waits_and_the_present_one_takes_it_back() {
    let (mut host, mut load) = wrapped();
    say(&mut host, "replog resize 8192").unwrap();
    say(&mut host, "replog resize 6000").unwrap();
    assert!(host.machine.resizing().unwrap().ends_with("to have 6000"));
    let said = say(&mut host, "replog resize 4096").unwrap();
    assert_eq!(said, "the log: its size of 6000 sectors is to be 4096\n");
    assert_eq!(host.machine.resizing(), None);
    assert_eq!(say(&mut host, "replog resize 4096"), Ok(String::new()));
    say(&mut host, "replog resize 7000").unwrap();
    host.faults.clear();
    load.go_on(&mut host, 1);
    assert_eq!(size(&host), 7000);
}

#[test]
fn a_full_log_lets_go_of_a_site_that_is_down_and_then_it_is_resized() {
    let (mut host, mut load) = wrapped();
    say(&mut host, "replog resize 8192").unwrap();
    load.go_on(&mut host, 100);
    assert!(host.site().detached);
    assert_eq!(size(&host), 8192);
    host.faults.clear();
    load.go_on(&mut host, 50);
    load.check(&mut host);
    assert_same(host.device_bytes(2), &load.model);
}

#[test]
fn a_table_with_another_size_does_the_same() {
    let mut host = Host::new("create", "async", Host::blank());
    let mut group = host.machine.plan().group();
    group.table.log.size = Some(blk::Sectors(8192));
    let changes = host.reload(&group, &[]).unwrap();
    assert_eq!(changes, ["the log: its size of 4096 sectors is to be 8192"]);
    host.run();
    assert_eq!(size(&host), 8192);
    assert_eq!(host.reload(&group, &[]), Ok(Vec::new()));
    // Who says no size takes the one there is.
    (group.table.log.mode, group.table.log.size) = (table::Mode::Open, None);
    assert_eq!(host.reload(&group, &[]), Ok(Vec::new()));
    assert_eq!(size(&host), 8192);
}

#[test]
fn a_size_that_the_log_can_t_have_is_refused_with_what_it_could_and_nothing_changes() {
    let mut host = Host::of(
        "blockdev 1 0 blockdev 1 1",
        "create 8192",
        "1 1 /rd0 core 2 8 nosync",
        Host::blank(),
        BTreeMap::new(),
    );
    for (words, expected) in [
        ("replog resize", "replog resize (sectors): expected a whole number, found the end"),
        ("replog resize 4095", "replog resize (sectors): expected a whole number from 4096 to "),
        ("replog resize large", "replog resize (sectors): expected a whole number from 4096 to "),
        ("replog resize 8192 now", "expected nothing more, found `now`"),
        ("replog reset", "expected `statistics` or `resize`, found \"reset\""),
        (
            "replog resize 8200",
            "a log of 8200 sectors at sector 0 does not fit /log, which has 8192; make that \
             larger first, or say 8192 at most",
        ),
        (
            "replog resize 4096",
            "the devices in use send requests of up to 1912 sectors, which need a log of 8192 \
             sectors at least, found 4096",
        ),
    ] {
        let error = say(&mut host, words).unwrap_err();
        assert!(error.contains(expected), "{words}: {error}");
        assert_eq!((size(&host), host.machine.resizing()), (8192, None), "{words}");
    }
    assert_eq!(host.machine.plan().group().table.log.size.unwrap().0, 8192);
    let word = host.machine.message(host.now, Some(DevNr(0)), &["replog", "resize", "8192"]);
    assert_eq!(word, Ok(String::new()));
}
