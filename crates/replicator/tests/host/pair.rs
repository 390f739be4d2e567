//! A group in which two devices share a number, one at a time, beside one that is always there.

use std::collections::BTreeMap;

use blk::{DevNr, DiskId, Errno, ReqId, Span};
use replicator::SiteState;

use super::{Host, assert_same};

pub(crate) const RD: DiskId = DiskId(2);
pub(crate) const LD1: DiskId = DiskId(5);
pub(crate) const RD1: DiskId = DiskId(6);
pub(crate) const DISKS: [(&str, u32); 3] = [("/log", 0), ("/ld0", 1), ("/rd0", 2)];
/// The disks of device 1, and of another that comes after it.
pub(crate) const FIRST: [(&str, u32); 3] = [("/ld1", 5), ("/rd1", 6), ("/dl1", 7)];
pub(crate) const SECOND: [(&str, u32); 3] = [("/ld2", 8), ("/rd2", 9), ("/dl2", 10)];
pub(crate) const DIRTY_LOGS: [&str; 4] =
    ["core 2 64 nosync", "disk 3 /dl1 64 sync", "nolog 0", "core 2 8 sync"];
pub(crate) const DEVICE: u64 = 4096;
/// So short that its site can be attached to the log at once.
pub(crate) const SHORT: u64 = 256;

pub(crate) fn table(mode: &str, devices: &[&str]) -> String {
    format!(
        "repl: 0 1 replicator ringbuffer 4 /log 0 {mode} 4096 blockdev 1 0 blockdev 2 1 async\n\
         db: 0 {DEVICE} replicator-dev repl 0 0 1 /ld0 nolog 0 1 1 /rd0 core 2 64 nosync\n{}",
        devices.concat()
    )
}

pub(crate) fn first(dirty_log: &str) -> String {
    format!("wal: 0 {DEVICE} replicator-dev repl 1 0 1 /ld1 nolog 0 1 1 /rd1 {dirty_log}\n")
}

pub(crate) fn second(dirty_log: &str) -> String {
    format!("tmp: 0 {SHORT} replicator-dev repl 1 0 1 /ld2 nolog 0 1 1 /rd2 {dirty_log}\n")
}

pub(crate) fn group(text: &str) -> table::Group {
    table::TableFile::parse(text).unwrap().groups().unwrap().pop().unwrap()
}

pub(crate) fn open(text: &str, disks: BTreeMap<DiskId, Vec<u8>>) -> Host {
    let names: Vec<_> = [DISKS, FIRST, SECOND].concat();
    let names: Vec<_> = names.into_iter().filter(|(path, _)| text.contains(path)).collect();
    Host::of_text(text, &names, disks, BTreeMap::new(), None)
}

/// What the driver does: nobody has it open, and sites are given time.
pub(crate) fn take_away(host: &mut Host, span: Span) -> Result<Vec<String>, String> {
    host.machine.hurry();
    host.run_for(span);
    let without = group(&table("auto", &[]));
    host.machine.may_reload(&without, &BTreeMap::new()).map_err(|error| error.to_string())?;
    host.machine.turn_away(DevNr(1));
    host.reload(&without, &[])
}

pub(crate) fn acked(host: &Host, req: ReqId) -> Option<Result<(), Errno>> {
    host.ended.get(&req).copied()
}

pub(crate) fn is_equal(host: &mut Host, dev: u32, sectors: u64, disks: [DiskId; 2]) {
    host.run_for(Span::from_secs(600));
    let device = host.read_of(dev, 0, sectors);
    for disk in disks {
        assert_same(&host.disks[&disk][..sectors as usize * 512], &device);
    }
    for site in host.machine.status(host.now).sites {
        let well = (site.state, site.consistent, site.lag_writes, site.dirty_bytes);
        assert_eq!(well, (SiteState::Streaming, true, 0, 0), "site {}", site.slink);
    }
}

pub(crate) fn is_well(host: &mut Host) {
    is_equal(host, 0, DEVICE, [DiskId(1), RD]);
}
