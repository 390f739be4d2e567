//! Another name for a device, and for a replicator, while it is in use.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Span};
use host::{Host, assert_same};
use replog::format::superblock::Superblock;
use slink::mark::{Mark, MarkState};

const LOG: DiskId = DiskId(0);
const MARK: DiskId = DiskId(7);
const SITES: &str = "blockdev 1 0 blockdev 1 1";
const LEG: &str = "1 1 /rd0 core 2 64 nosync";

fn host() -> Host {
    let mut host = Host::of(SITES, "create 4096", LEG, Host::blank(), BTreeMap::new());
    host.write(7, 9, 5);
    host.run();
    host
}

/// What each slot calls the device.
fn names(host: &Host) -> Vec<String> {
    let slot = |nr: u64| &host.disks[&LOG][(nr * replog::geometry::SLOT_BYTES) as usize..];
    let name = |nr| Superblock::decode(slot(nr)).unwrap().devices[0].name.clone();
    vec![name(0), name(1)]
}

#[test]
fn a_device_has_another_name_in_both_slots_of_the_log_and_goes_on() {
    let mut host = host();
    let before = names(&host);
    let under_way: Vec<_> = (0..40).map(|i| host.write(i * 91 % 4000, 16, 3)).collect();
    host.machine.rename(Some(DevNr(0)), "journal").unwrap();
    assert!(!host.machine.has_settled(), "nobody uses the name yet");
    assert_eq!(host.machine.plan().devices[0].name, "journal");
    host.run_for(Span::from_secs(5));
    assert!(host.machine.has_settled());
    assert_eq!(names(&host), ["journal", "journal"]);
    assert!(under_way.iter().all(|req| host.ended.get(req) == Some(&Ok(()))));
    assert_eq!(host.machine.status(host.now).devices[0].name, "journal");
    // And back, as when what comes behind it could not be done.
    host.machine.rename(Some(DevNr(0)), &before[0]).unwrap();
    host.run_for(Span::from_secs(5));
    assert_eq!(names(&host), before);
}

#[test]
fn a_name_has_settled_at_no_moment_before_both_slots_have_it_and_any_crash_goes_on_with_either() {
    let before = names(&host())[0].clone();
    let mut settled = 0;
    for effects in 0..24 {
        let mut host = host();
        host.machine.rename(Some(DevNr(0)), "journal").unwrap();
        host.effects_left = Some(effects);
        host.run_for(Span::from_secs(5));
        if host.machine.has_settled() {
            assert_eq!(names(&host), ["journal", "journal"], "after {effects} effects");
            settled += 1;
        }
        // A successor goes by the table: it has the one name, or the other.
        for name in [before.as_str(), "journal"] {
            let text = format!(
                "repl: 0 1 replicator ringbuffer 4 /log 0 open 4096 {SITES}\n\
                 {name}: 0 4096 replicator-dev repl 0 0 1 /ld0 nolog 0 {LEG}\n"
            );
            let paths = [("/log", 0), ("/ld0", 1), ("/rd0", 2)];
            let disks = host.disks.clone();
            let mut again = Host::of_text(&text, &paths, disks, BTreeMap::new(), None);
            again.run();
            assert_eq!(names(&again), [name, name], "after {effects} effects");
            assert_same(&again.read(7, 9), &[5; 9 * 512]);
        }
    }
    assert!((1..24).contains(&settled), "some crashes come before, some after: {settled}");
}

#[test]
fn a_replicator_s_new_name_is_told_to_its_sites() {
    let mut host = host();
    host.disks.insert(MARK, vec![0; 8192 * 512]);
    host.edit(None, "slink message 1 mark:/m", &[("/m", MARK.0)]).unwrap();
    host.run();
    let mark = |host: &Host| Mark::decode(&host.disks[&MARK][..4096]).unwrap();
    let before = mark(&host);
    host.machine.rename(None, "east").unwrap();
    host.run();
    let after = mark(&host);
    assert_eq!((after.name.as_str(), after.state), ("east", MarkState::Consistent));
    assert!(after.generation > before.generation);
    assert_eq!(host.machine.status(host.now).name, "east");
    assert_eq!(host.machine.plan().group().devices[0].table.replicator, "east");
    // What is told later is told under that name, too.
    host.disks.insert(DiskId(8), vec![0; 8192 * 512]);
    host.edit(None, "slink message 1 mark:/n", &[("/n", 8)]).unwrap();
    host.run();
    assert_eq!(Mark::decode(&host.disks[&DiskId(8)][..4096]).unwrap().name, "east");
}

#[test]
fn a_name_that_can_t_be_had_changes_nothing() {
    let mut host = host();
    let plan = host.machine.plan().clone();
    let other = plan.name.clone();
    for (dev, name) in [(Some(DevNr(0)), "a/b"), (None, ""), (Some(DevNr(0)), other.as_str())] {
        host.machine.rename(dev, name).unwrap_err();
        assert_eq!(host.machine.plan(), &plan);
        assert!(host.machine.has_settled());
    }
    host.machine.stop(false);
    host.run();
    let refusal = host.machine.rename(None, "east").unwrap_err().to_string();
    assert_eq!(refusal, "the log is not open");
}
