//! A table's disks: there, absent, taken, or one and the same.

use std::fs::{self, File};

use super::*;

/// A log, two devices with an LD each, and the paths of RDs on site 1.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        for name in ["log", "ld0", "ld1", "rd0", "rd1"] {
            home.make(name);
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make(&self, name: &str) {
        File::create_new(self.path(name)).unwrap().set_len(8 << 20).unwrap();
    }

    fn group(&self) -> Group {
        let at = self.directory.path().display();
        let text = format!(
            "repl: 0 1 replicator ringbuffer 4 {at}/log 0 auto 8192 blockdev 3 0 async timeout_io:100 blockdev 2 1 async\n\
             d0: 0 8192 replicator-dev repl 0 0 1 {at}/ld0 nolog 0 1 1 {at}/rd0 core 2 1024 nosync\n\
             d1: 0 8192 replicator-dev repl 1 0 1 {at}/ld1 nolog 0 1 1 {at}/rd1 core 2 1024 nosync\n"
        );
        crate::tables::from_text(&text).unwrap().group
    }

    fn open(&self) -> Result<(Disks, Plan)> {
        self.open_after(false)
    }

    fn open_after(&self, for_dead: bool) -> Result<(Disks, Plan)> {
        let waits = Waits { busy: Duration::ZERO, local: Duration::ZERO, for_dead };
        Disks::open(&self.group(), waits, None, None)
    }

    fn take(&self, name: &str) -> Disk {
        Disk::open(&self.path(name), &OpenSpec::default()).unwrap()
    }
}

/// The disk of a device on site 1.
fn rd(plan: &Plan, device: usize) -> &DiskFacts {
    &plan.devices[device].legs[1].disk
}

#[test]
fn everything_that_is_there_is_opened_and_nothing_is_missing() {
    let home = Home::new();
    let (disks, plan) = home.open().unwrap();
    assert_eq!(disks.open.len(), 5);
    assert!(disks.missing().is_empty());
    disks.require_all().unwrap();
    for (id, disk) in &disks.open {
        let facts = [&plan.log.disk, rd(&plan, 0), rd(&plan, 1)];
        let named = facts.into_iter().find(|facts| facts.id == *id);
        assert!(named.is_none_or(|facts| Path::new(&facts.path) == disk.path()));
    }
}

#[test]
fn a_remote_disk_that_is_absent_has_its_number_and_is_opened_when_it_is_there() {
    let home = Home::new();
    fs::remove_file(home.path("rd1")).unwrap();
    let (disks, plan) = home.open().unwrap();
    assert_eq!(disks.open.len(), 4);
    let absent = rd(&plan, 1);
    assert_eq!(absent.seen.as_ref().unwrap_err().errno, Errno(Word::NOENT.raw_os_error()));
    let sentence = format!(
        "device 1 on site 1: {}: no such file or device; the site is down until it is back",
        home.path("rd1").display()
    );
    assert_eq!(disks.missing(), [sentence]);

    disks.places.open_again(absent.id).unwrap_err();
    home.make("rd1");
    assert_eq!(disks.places.open_again(absent.id).unwrap().path(), home.path("rd1"));
}

#[test]
fn whoever_requires_all_is_told_everything_that_is_not_there() {
    let home = Home::new();
    fs::remove_file(home.path("rd0")).unwrap();
    fs::remove_file(home.path("rd1")).unwrap();
    let refusal = home.open().unwrap().0.require_all().unwrap_err().to_string();
    for (dev, name) in [(0, "rd0"), (1, "rd1")] {
        let part = format!("device {dev} on site 1: {}: no such", home.path(name).display());
        assert!(refusal.contains(&part), "{refusal} has no {part}");
    }
}

#[test]
fn a_busy_remote_disk_keeps_nothing_from_starting_and_a_busy_local_one_does() {
    let home = Home::new();
    let holder = home.take("rd0");
    let (disks, plan) = home.open().unwrap();
    let refusal = rd(&plan, 0).seen.clone().unwrap_err();
    assert_eq!(refusal.errno, Errno(Word::BUSY.raw_os_error()));
    assert!(refusal.why.contains("in use by this very process"), "{}", refusal.why);
    drop(holder);
    disks.places.open_again(rd(&plan, 0).id).unwrap();
    drop(disks);

    let _holder = home.take("ld0");
    let refusal = format!("{:#}", home.open().unwrap_err());
    assert!(refusal.starts_with("device 0 on site 0: "), "{refusal}");
    // What a dead daemon left in flight there may hang; another site may have everything.
    let (disks, plan) = home.open_after(true).unwrap();
    assert!(plan.devices[0].legs[0].disk.seen.is_err() && disks.missing().len() == 1);
}

#[test]
fn a_local_disk_that_is_absent_is_the_log_s_to_judge_unless_nothing_else_is_there() {
    let home = Home::new();
    fs::remove_file(home.path("ld0")).unwrap();
    let (disks, plan) = home.open().unwrap();
    assert!(plan.devices[0].legs[0].disk.seen.is_err());
    let sentence = disks.missing().remove(0);
    assert!(sentence.starts_with("device 0 on site 0: "), "{sentence}");
    fs::remove_file(home.path("rd0")).unwrap();
    let refusal = format!("{:#}", home.open().unwrap_err());
    assert!(refusal.starts_with("device 0 on site 0: "), "{refusal}");
}

#[test]
fn one_disk_by_two_paths_is_refused_also_when_it_comes_later() {
    let home = Home::new();
    fs::remove_file(home.path("rd1")).unwrap();
    fs::hard_link(home.path("rd0"), home.path("rd1")).unwrap();
    let refusal = home.open().unwrap_err().to_string();
    assert!(refusal.contains("are the same"), "{refusal}");

    fs::remove_file(home.path("rd1")).unwrap();
    let (mut disks, plan) = home.open().unwrap();
    let id = rd(&plan, 0).id;
    // Not locked any more, but still known.
    disks.open.retain(|(open, _)| *open != id);
    fs::hard_link(home.path("rd0"), home.path("rd1")).unwrap();
    let refusal = disks.places.open_again(rd(&plan, 1).id).unwrap_err();
    assert!(refusal.why.contains("is the same as"), "{}", refusal.why);
    disks.places.open_again(id).unwrap();
}

#[test]
fn a_disk_whose_opening_hangs_is_given_up_and_one_that_is_vital_is_open() {
    let home = Home::new();
    // Takes every request, and never answers one.
    let silent = Program::new("/bin/sh".into(), ["-c", "exec cat >/dev/null"]);
    let places = Places::of(&home.group(), Some(silent), None);
    let spec = |_| OpenSpec::default();
    let found = places.open_all(&places.all, |_| Instant::now(), spec).unwrap();
    for place in &places.all {
        match &found[&place.id] {
            Ok(_) => assert_eq!(place.role, Role::Log),
            Err(refusal) => {
                assert_eq!(refusal.errno, Errno::ETIMEDOUT);
                assert!(refusal.why.starts_with(&place.text), "{}", refusal.why);
            }
        }
    }
}
