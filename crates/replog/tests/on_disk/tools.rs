//! The tools see what recovery sees, say what they find, and cut only when told to.

use blk::{Errno, Sector, Seq, SlinkNr};
use replog::format::superblock::{LegRecord, LogState, Superblock, choose};
use replog::scan::Proof;
use replog::tools::{Health, Line, LogReader, Repair, ToolError, check, dump, repair};

use crate::image::{Image, Put};
use crate::samples::{cursor, device, leg, site};

const START: Sector = Sector(64);

/// A device of which some sectors can't be read.
struct Device<'a> {
    image: &'a Image,
    bad: Vec<u64>,
}

impl LogReader for Device<'_> {
    fn read(&mut self, sector: Sector, buf: &mut [u8]) -> Result<(), Errno> {
        assert!(buf.len().is_multiple_of(4096), "a tool reads whole blocks");
        let end = sector.0 + buf.len() as u64 / 512;
        if self.bad.iter().any(|bad| (sector.0..end).contains(bad)) {
            return Err(Errno::EIO);
        }
        self.image.read_sectors(sector, buf)
    }
}

fn on(image: &Image) -> Device<'_> {
    Device { image, bad: vec![] }
}

/// Six groups of which five are durable; the local site has nine writes, site 3 four.
fn log() -> Image {
    let mut image = Image::new();
    image.sb.devices = vec![device(0, "data"), device(1, "logs")];
    image.sb.sites = vec![site(0, |s| s.covered = Seq(0)), site(3, |s| s.covered = Seq(0))];
    image.checkpoint();
    image.checkpoint();
    image.append(&[Put::Data(8), Put::Discard(16)]);
    image.append(&[Put::Data(3), Put::Data(1)]);
    image.append(&[Put::Data(8), Put::Data(8)]);
    image.flush();
    image.append(&[Put::Data(16), Put::Data(8)]);
    image.append(&[Put::Data(24)]);
    image.flush();
    image.cursors = vec![cursor(0, 9), cursor(3, 4)];
    image.append(&[Put::Data(8)]);
    image
}

/// The same with one flipped bit in the data of write 5.
fn damaged() -> Image {
    let mut image = log();
    let pos = image.groups[2].pos;
    image.at(pos)[4096 + 100] ^= 4;
    image
}

fn lines(image: &Image) -> Vec<Line> {
    let mut lines = Vec::new();
    dump(&mut on(image), START, &mut |line| lines.push(line)).unwrap();
    lines
}

/// Does what a repair says, and reads the log as the next opening will.
fn repaired(mut image: Image, plan: &Repair) -> (Image, Superblock) {
    for write in &plan.writes {
        let at = write.sector.bytes() as usize;
        image.device[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    let slot = |nr| Superblock::decode(&image.device[image.geometry.slot(nr).bytes() as usize..]);
    let LogState::Valid(sb) = choose(slot(0), slot(1)) else { panic!("no superblock") };
    (image, sb)
}

#[test]
fn a_sound_log_is_found_sound() {
    let image = log();
    let report = check(&mut on(&image), START);
    assert_eq!(report.health, Health::Sound);
    let log = report.log.unwrap();
    assert_eq!((log.groups, log.pads, log.writes), (6, 0, 10));
    assert_eq!(log.payload_sectors, 8 + 3 + 1 + 8 + 8 + 16 + 8 + 24 + 8);
    assert_eq!(log.used_bytes, image.tip.pos.0);
    assert_eq!((log.tip.group, log.tip.seq, log.durable), (6, 10, 9));
    let sites: Vec<_> = log.sites.iter().map(|s| (s.slink, s.covered, s.lag_writes)).collect();
    assert_eq!(sites, [(0, 9, 1), (3, 4, 6)]);
}

#[test]
fn a_check_is_a_page_to_read() {
    let text = check(&mut on(&log()), START).to_string();
    let expected = "\
superblock 0: generation 4
superblock 1: generation 5, current
log 0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0, 4096 sectors, opening 1
head: sector 576, behind group 0 and write 0
tip:  sector 712, behind group 6 and write 10; expected the magic \"RPLGROUP\", found zeroes
holds: 10 writes in 6 groups, 84 sectors of data; 69632 bytes, 3% of the ring
durable: up to write 9 at least
device 0: data, 2097152 sectors
device 1: logs, 2097152 sectors
site 0: up to write 9, 1 to come
site 3: up to write 4, 6 to come
verdict: sound
";
    assert_eq!(text, expected);
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let mut image = log();
    let wiped = Sector(64).bytes() as usize..Sector(64 + 512).bytes() as usize;
    image.device[wiped].fill(0);
    assert_eq!(check(&mut on(&image), START).health, Health::Absent);
    let error = repair(&mut on(&image), START).unwrap_err();
    assert_eq!(error.to_string(), "there is no replication log at sector 64");
    assert!(dump(&mut on(&image), START, &mut |line| panic!("{line}")).is_err());
}

#[test]
fn any_start_sector_gives_an_answer() {
    let image = log();
    for start in [0, 1, 63, 65, 1 << 40, u64::MAX / 512, u64::MAX] {
        let report = check(&mut on(&image), Sector(start));
        assert!(matches!(report.health, Health::Absent | Health::Unreadable), "{report}");
    }
}

#[test]
fn damaged_superblocks_are_named() {
    let mut image = log();
    for slot in 0..2 {
        let at = image.geometry.slot(slot).bytes() as usize;
        image.device[at + 100] ^= 1;
        let report = check(&mut on(&image), START);
        let expected = if slot == 0 { Health::Sound } else { Health::NoSuperblock };
        assert_eq!(report.health, expected, "a log has two slots for that");
        assert!(report.slots[slot as usize].problem.as_ref().unwrap().contains("checksum"));
    }
    assert!(matches!(repair(&mut on(&image), START), Err(ToolError::Superblocks(_))));
}

#[test]
fn a_slot_that_cannot_be_read_is_a_damaged_one() {
    let image = log();
    let mut device = Device { image: &image, bad: vec![70] };
    assert_eq!(check(&mut device, START).health, Health::Sound);
    device.bad.push(64 + 300);
    assert_eq!(check(&mut device, START).health, Health::Unreadable);
}

#[test]
fn a_dump_has_a_line_for_every_group_and_write() {
    let image = log();
    let lines = lines(&image);
    assert_eq!(lines.len(), 8);
    for (line, group) in lines[1..].iter().zip(&image.groups) {
        let Line::Group(line) = line else { panic!("{line}") };
        assert_eq!((line.nr, line.crc), (group.header.nr, group.crc));
        for (entry, (seq, expected)) in line.entries.iter().zip(group.header.numbered()) {
            assert_eq!((entry.seq, entry.sectors), (seq.0, expected.len.0));
            let data = entry.payload_sector.map(|sector| sector as usize * 512);
            let data = data.map(|at| &image.device[at..at + expected.len.len()]);
            let crc = data.map(replog::format::crc::crc32c);
            assert_eq!(crc, entry.crc, "the data lies where the dump says");
        }
    }
    assert!(matches!(&lines[7], Line::End { tip, .. } if tip.seq == 10));
}

#[test]
fn lines_of_a_dump_read_well_and_are_json() {
    let lines = lines(&log());
    let crc = match &lines[1] {
        Line::Group(group) => (group.crc, group.entries[0].crc.unwrap()),
        line => panic!("{line}"),
    };
    assert_eq!(
        lines[1].to_string(),
        format!(
            "group 1 at sector 576: opening 1, 8192 bytes, written 1700000000.000000000, \
             durable 0, crc {:08x}\n  1: device 1 write 8 sectors at 0, data at sector 584, \
             crc {:08x}\n  2: device 0 discard 16 sectors at 8",
            crc.0, crc.1
        )
    );
    let json = serde_json::to_value(&lines[1]).unwrap();
    assert_eq!(json["group"]["entries"][1]["op"], "discard");
    assert_eq!(json["group"]["sector"], 576);
}

#[test]
fn check_and_dump_say_how_sites_and_legs_stand() {
    let mut image = log();
    image.sb.sites[1].detached = Some(7);
    image.sb.sites[1].demoted = true;
    image.sb.sites[1].inconsistent = true;
    image.sb.legs = vec![leg(0, 0, "wwid:a"), LegRecord { all_dirty: true, ..leg(0, 3, "") }];
    image.checkpoint();
    let stands = "inconsistent; detached, its dirty logs are of session 7; \
                  all of device 0 is dirty; acknowledgements do not wait for it";
    let text = check(&mut on(&image), START).to_string();
    assert!(text.contains(&format!("site 3: up to write 4, 6 to come; {stands}\n")), "{text}");
    let checkpoint = &lines(&image)[0];
    let expected = format!(
        "checkpoint, generation 6: opening 1, durable 0, \
         head sector 576, behind group 0 and write 0\n  \
         site 0: up to write 0, has all\n  \
         site 3: up to write 0, has all; {stands}\n  \
         device 0 on site 0: 2097152 sectors, wwid:a\n  \
         device 0 on site 3: 2097152 sectors, never seen; all of it is dirty"
    );
    assert_eq!(checkpoint.to_string(), expected);
    let json = serde_json::to_value(checkpoint).unwrap();
    assert_eq!(json["checkpoint"]["sites"][1]["detached"], 7);
    assert_eq!(json["checkpoint"]["legs"][1]["all_dirty"], true);
}

#[test]
fn check_and_dump_name_damage_and_its_place() {
    let image = damaged();
    let report = check(&mut on(&image), START);
    assert_eq!(report.health, Health::Damaged);
    let damage = report.log.unwrap().damage.unwrap();
    assert_eq!((damage.group, damage.seq), (3, 5));
    assert_eq!(damage.sector, image.geometry.sector(image.groups[2].pos).0);
    assert_eq!(lines(&image).last(), Some(&Line::Damage(damage)));
    assert_eq!(dump(&mut on(&image), START, &mut |_| ()), Ok(Health::Damaged));
}

#[test]
fn blocks_that_cannot_be_read_are_listed_and_never_cut() {
    let image = log();
    let sector = image.geometry.sector(image.groups[2].pos).0 + 9;
    let mut device = Device { image: &image, bad: vec![sector] };
    let report = check(&mut device, START);
    assert_eq!(report.health, Health::Unreadable);
    let log = report.log.unwrap();
    assert_eq!((log.unreadable[0].sector, log.unreadable[0].sectors), (sector - 1, 8));
    let error = repair(&mut device, START).unwrap_err();
    assert_eq!(error, ToolError::Unreadable { sectors: 8, first: Sector(sector - 1) });
}

#[test]
fn a_sound_log_is_not_repaired() {
    let plan = repair(&mut on(&log()), START).unwrap();
    assert_eq!((plan.damage.is_some(), plan.writes.len()), (false, 0));
}

#[test]
fn a_repair_cuts_where_the_damage_is_and_nothing_comes_back() {
    let damaged = damaged();
    let plan = repair(&mut on(&damaged), START).unwrap();
    let (image, sb) = repaired(damaged.clone(), &plan);
    let (groups, end) = image.scan_from(&sb);
    assert_eq!(groups, damaged.groups[..2]);
    assert_eq!(end.unwrap().anchor, damaged.groups[1].end());
    assert_eq!(check(&mut on(&image), START).health, Health::Sound);
    assert_eq!(repair(&mut on(&image), START).unwrap().writes, []);
    // Groups as long as the dead ones, written over them: none of the dead joins in.
    let mut image = Image { sb, tip: damaged.groups[1].end(), durable: 4, ..image };
    image.cursors.clear();
    for puts in [&[Put::Data(8), Put::Data(8)][..], &[Put::Data(16), Put::Data(8)]] {
        image.append(puts);
        assert_eq!(image.scan().1.unwrap().anchor, image.tip);
    }
}

#[test]
fn a_repair_survives_the_loss_of_either_slot() {
    let damaged = damaged();
    let plan = repair(&mut on(&damaged), START).unwrap();
    assert_eq!(plan.writes.len(), 2);
    for lost in 0..2 {
        let (mut image, _) = repaired(damaged.clone(), &plan);
        let at = plan.writes[lost].sector.bytes() as usize;
        image.device[at + 50] ^= 1;
        assert_eq!(check(&mut on(&image), START).health, Health::Sound);
    }
}

#[test]
fn a_repair_says_what_is_lost() {
    let image = damaged();
    let plan = repair(&mut on(&image), START).unwrap();
    let lost = plan.lost.as_ref().unwrap();
    assert_eq!((lost.first_seq, lost.last_seq), (5, 10));
    let found: Vec<_> = lost.writes.iter().map(|w| (w.seq, w.intact_at.is_some())).collect();
    let expected = [(5, false), (6, true), (7, true), (8, true), (9, true), (10, true)];
    assert_eq!(found, expected);
    let text = plan.to_string();
    assert!(
        text.contains("lost: 6 writes, 5 to 10\n  5: device 1 write 8 sectors at 0\n"),
        "{text}"
    );
    assert!(text.contains("  6: device 0 write 8 sectors at 8, its data is whole at"), "{text}");
}

#[test]
fn writes_of_a_header_that_is_gone_are_counted() {
    let mut image = log();
    image.lose(&image.groups[2].clone(), 0..1);
    let plan = repair(&mut on(&image), START).unwrap();
    let lost = plan.lost.as_ref().unwrap();
    assert_eq!((lost.first_seq, lost.last_seq, lost.writes.len()), (5, 10, 4));
    let text = plan.to_string();
    assert!(text.contains("  of 2 nothing is known but that they were\n"), "{text}");
}

#[test]
fn a_repair_marks_what_may_differ() {
    let image = damaged();
    let plan = repair(&mut on(&image), START).unwrap();
    let (_, sb) = repaired(image, &plan);
    let sites: Vec<_> =
        sb.sites.iter().map(|s| (s.slink.0, s.covered.0, s.inconsistent, s.all_dirty)).collect();
    assert_eq!(sites, [(0, 4, true, false), (3, 4, true, true)]);
    assert_eq!((sb.durable, sb.epoch, sb.epoch_first_group), (Seq(4), 2, 3));
}

#[test]
fn a_site_that_has_all_that_is_lost_stays_consistent() {
    let mut image = log();
    image.flush();
    image.cursors = vec![cursor(0, 10), cursor(3, 4)];
    image.marks();
    let pos = image.groups[2].pos;
    image.at(pos)[4096 + 100] ^= 4;
    let (_, sb) = repaired(image.clone(), &repair(&mut on(&image), START).unwrap());
    let local = sb.sites.iter().find(|site| site.slink == SlinkNr::LOCAL).unwrap();
    assert!(!local.inconsistent && !local.all_dirty);
}

#[test]
fn with_the_local_copy_lost_the_fullest_remote_one_is_the_source() {
    let mut image = log();
    image.sb.sites[0].lost_since = Some(Seq(1));
    image.checkpoint();
    let pos = image.groups[2].pos;
    image.at(pos)[4096 + 100] ^= 4;
    let (_, sb) = repaired(image.clone(), &repair(&mut on(&image), START).unwrap());
    let dirty: Vec<_> = sb.sites.iter().map(|site| site.all_dirty).collect();
    assert_eq!(dirty, [true, false]);
}

#[test]
fn a_site_that_is_detached_is_no_source() {
    let mut image = log();
    image.sb.sites[0].lost_since = Some(Seq(1));
    image.sb.sites[1].detached = Some(7);
    image.checkpoint();
    let pos = image.groups[2].pos;
    image.at(pos)[4096 + 100] ^= 4;
    let (_, sb) = repaired(image.clone(), &repair(&mut on(&image), START).unwrap());
    assert!(sb.sites.iter().all(|site| site.all_dirty));
    assert_eq!(sb.sites[1].detached, Some(7), "it is still known to lack something");
}

/// Openings 2 and 3 wrote two groups, of which no superblock knows any more.
fn openings_without_superblock() -> Image {
    let mut image = log();
    let old = image.sb.clone();
    image.reopen(image.tip);
    image.append_small(1);
    image.reopen(image.tip);
    image.append_small(1);
    // Both slots go back to what they were before.
    image.sb = Superblock { generation: old.generation + 5, ..old };
    image.checkpoint();
    image.checkpoint();
    image
}

#[test]
fn groups_of_an_opening_whose_superblock_is_lost_are_kept() {
    let image = openings_without_superblock();
    let damage = image.scan().1.unwrap_err();
    assert!(matches!(damage.proof, Proof::LostSuperblock { epoch: 2, .. }), "{damage}");
    let plan = repair(&mut on(&image), START).unwrap();
    assert_eq!(plan.lost, None);
    assert!(plan.to_string().contains("whole: nothing is lost"), "{plan}");
    let (repaired, sb) = repaired(image.clone(), &plan);
    assert_eq!((sb.epoch, sb.epoch_first_group, sb.durable), (4, 9, Seq(12)));
    let (groups, end) = repaired.scan_from(&sb);
    assert_eq!((groups, end.unwrap().anchor), (image.groups.clone(), image.tip));
    // What flags the lost superblock had, nobody knows.
    let dirty: Vec<_> = sb.sites.iter().map(|site| site.all_dirty).collect();
    assert_eq!(dirty, [false, true]);
}

/// Damage behind a lost superblock: a new opening is higher than any that the ring
/// speaks of, or its groups would join in with the dead ones.
#[test]
fn a_repair_begins_an_opening_that_the_ring_has_never_seen() {
    let mut image = openings_without_superblock();
    image.lose(&image.groups[6].clone(), 0..1);
    let damage = image.scan().1.unwrap_err();
    assert!(matches!(damage.proof, Proof::LostSuperblock { epoch: 3, .. }), "{damage}");
    let plan = repair(&mut on(&image), START).unwrap();
    let (repaired, sb) = repaired(image, &plan);
    assert_eq!((sb.epoch, sb.epoch_first_group), (4, 7));
    assert_eq!(repaired.scan_from(&sb).0.len(), 6);
    let lost = plan.lost.unwrap();
    assert_eq!((lost.first_seq, lost.last_seq, lost.writes.len()), (11, 12, 1));
}
