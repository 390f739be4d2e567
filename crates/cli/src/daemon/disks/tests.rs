//! A table's disks: there, absent, taken, or one and the same.

use std::fs::{self, File};

use super::*;

const AT_ONCE: Waits =
    Waits { busy: Duration::ZERO, local: Duration::ZERO, helper: HELPER_LIMIT, for_dead: false };

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
        Disks::open(&self.group(), Waits { for_dead, ..AT_ONCE }, None, None, None)
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
    // Takes every request, says that it is there, and answers nothing else.
    let hangs = "printf '\\012\\0\\0\\0\\0\\0\\0\\0' >&0; exec cat >/dev/null";
    assert_all_late(&home, hangs, HELPER_LIMIT, "it could not be opened in time");
    let never_there = "exec cat >/dev/null";
    assert_all_late(&home, never_there, Duration::ZERO, "the process that opens it did not start");
}

/// Of the disks that `script` opens as a helper none comes; the others do.
fn assert_all_late(home: &Home, script: &str, helper: Duration, why: &str) {
    let program = Program::new("/bin/sh".into(), ["-c", script]);
    let places = Places::of(&home.group(), Some(program), None, None);
    let all = places.lock().clone();
    let spec = |_| OpenSpec::default();
    let found = places.open_all(&all, |_| helper, |_| Duration::ZERO, spec).unwrap();
    for place in &all {
        match &found[&place.id] {
            Ok(_) => assert_eq!(place.role, Role::Log),
            Err(refusal) => {
                assert_eq!(refusal.errno, Errno::ETIMEDOUT);
                assert!(refusal.why.starts_with(&place.text), "{}", refusal.why);
                assert!(refusal.why.contains(why), "{}", refusal.why);
            }
        }
    }
}

#[test]
fn a_host_that_takes_long_to_start_a_process_does_not_make_a_disk_late() {
    let home = Home::new();
    // There after longer than any disk may take; its answer is that it can't open anything.
    let script = "sleep 1; printf '\\012\\0\\0\\0\\0\\0\\0\\0' >&0";
    let program = Program::new("/bin/sh".into(), ["-c", script]);
    let places = Places::of(&home.group(), Some(program), None, None);
    let all = places.lock().clone();
    let spec = |_| OpenSpec::default();
    let found = places.open_all(&all, |_| HELPER_LIMIT, |_| Duration::ZERO, spec).unwrap();
    for place in all.iter().filter(|place| place.role != Role::Log) {
        let refusal = found[&place.id].as_ref().unwrap_err();
        assert!(refusal.why.contains("has ended"), "{}", refusal.why);
    }
}

#[test]
fn a_successor_waits_for_the_process_that_opens_a_local_disk() {
    let home = Home::new();
    let script = "sleep 3; printf '\\012\\0\\0\\0\\0\\0\\0\\0' >&0";
    let program = Program::new("/bin/sh".into(), ["-c", script]);
    let places = Places::of(&home.group(), Some(program), None, None);
    let all = places.lock().clone();
    let helper = |role| Waits::RECOVERY.for_helper(role);
    let found = places.open_all(&all, helper, |_| Duration::ZERO, |_| OpenSpec::default()).unwrap();
    for place in all.iter().filter(|place| place.role != Role::Log && place.role.is_local()) {
        let why = &found[&place.id].as_ref().unwrap_err().why;
        assert!(why.contains("has ended"), "{why}");
    }
}

#[test]
fn another_replicators_disk_is_refused_by_whatever_path_until_it_is_given_back() {
    let (_runtime, dir) = crate::runtime::tests::scratch();
    let claims = |name: &str| dir.claims(&name.parse().unwrap());
    let holder = dir.group(&"holder".parse().unwrap());
    let lock = holder.lock().unwrap();
    let home = Home::new();
    // Not locked, as a disk that another path leads to.
    let open = |name| Disks::open(&home.group(), AT_ONCE, None, Some(claims(name)), None);
    drop(open("holder").unwrap());

    let refusal = format!("{:#}", open("other").unwrap_err());
    let (log, path) = (home.path("log"), home.path("log"));
    let expected = format!(
        "the log: {}: in use by the replicator holder as the log ({})",
        log.display(),
        path.display()
    );
    assert_eq!(refusal, expected);
    open("holder").unwrap();
    holder.clear(lock).unwrap();
    let other = dir.group(&"other".parse().unwrap());
    let _lock = other.lock().unwrap();
    open("other").unwrap();
}

#[test]
fn a_remote_disk_that_another_replicator_has_is_down_and_can_be_opened_later() {
    let (_runtime, dir) = crate::runtime::tests::scratch();
    let [mine, holder] = ["mine", "holder"].map(|name| dir.group(&name.parse().unwrap()));
    let (_lock, other) = (mine.lock().unwrap(), holder.lock().unwrap());
    let home = Home::new();
    let taken = Disk::open(&home.path("rd0"), &OpenSpec::default()).unwrap();
    let claim = Claim::new("the log".into(), "/x".into(), &taken.facts().extent);
    drop(taken);
    dir.claims(holder.name()).begin().unwrap().write(&[claim]).unwrap();

    let claims = Some(dir.claims(mine.name()));
    let (disks, plan) = Disks::open(&home.group(), AT_ONCE, None, claims, None).unwrap();
    let refusal = rd(&plan, 0).seen.clone().unwrap_err();
    assert!(
        refusal.why.ends_with("in use by the replicator holder as the log (/x)"),
        "{refusal:?}"
    );
    let again = disks.places.open_again(rd(&plan, 0).id).unwrap_err();
    assert_eq!(again, refusal);
    holder.clear(other).unwrap();
    disks.places.open_again(rd(&plan, 0).id).unwrap();
}

#[test]
fn a_local_disk_that_another_replicator_has_is_refused_though_others_could_be_read() {
    let (_runtime, dir) = crate::runtime::tests::scratch();
    let [mine, holder] = ["mine", "holder"].map(|name| dir.group(&name.parse().unwrap()));
    let (_lock, _other) = (mine.lock().unwrap(), holder.lock().unwrap());
    let home = Home::new();
    // By a path that leads to the same bytes: nobody has locked the disk itself.
    let taken = Disk::open(&home.path("ld0"), &OpenSpec::default()).unwrap();
    let claim = Claim::new("device 3 on site 0".into(), "/x".into(), &taken.facts().extent);
    drop(taken);
    dir.claims(holder.name()).begin().unwrap().write(&[claim]).unwrap();

    let claims = Some(dir.claims(mine.name()));
    let refusal = Disks::open(&home.group(), AT_ONCE, None, claims, None).unwrap_err();
    let refusal = format!("{refusal:#}");
    assert!(refusal.starts_with("device 0 on site 0: "), "{refusal}");
    let holder = "in use by the replicator holder as device 3 on site 0 (/x)";
    assert!(refusal.ends_with(holder), "{refusal}");
}

#[test]
fn a_table_that_names_more_gets_numbers_of_its_own_and_what_goes_leaves_its_disk_free() {
    let home = Home::new();
    let (disks, plan) = home.open().unwrap();
    let old = home.group();
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let edited = |group: &Group, text: &str| {
        let words = words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        group.edited(None, &words).unwrap()
    };
    let taken = edited(&old, "device del 0 1");
    let at = home.path("rd0");
    let moved = edited(
        &edited(&taken, "slink add 2"),
        &format!("device add 0 2 1 {} nolog 0", at.display()),
    );
    let more = disks.places().extend(&old, &moved);
    let (path, facts) = more.first_key_value().unwrap();
    assert_eq!((more.len(), path.as_str()), (1, at.to_str().unwrap()));
    let before = rd(&plan, 0).id;
    assert!(facts.seen.is_err() && facts.id.0 as usize == disks.open.len(), "{facts:?}");
    let places = disks.places();
    let busy = places.open_again(facts.id).unwrap_err();
    assert!(busy.why.contains("rd0"), "{}", busy.why);
    // The disk of the leg that goes is closed, and only then is it anybody's.
    let Disks { open, .. } = disks;
    drop(open);
    let same = places.open_again(facts.id).unwrap_err();
    assert!(same.why.contains("is the same as"), "{}", same.why);
    places.forget(before);
    assert!(places.open_again(facts.id).is_ok());
}
