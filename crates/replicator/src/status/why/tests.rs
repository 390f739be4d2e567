//! Every cause, and the sentence that it gets.

mod documented;

use super::super::data::{DeviceStatus, FailureKind, LossStatus, ResyncStatus, SiteFailure};
use super::super::verify::VerifyStatus;
use super::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A site that is well, changed.
fn site(slink: u16, change: impl FnOnce(&mut SiteStatus)) -> SiteStatus {
    let order = if slink == 0 { SiteOrder::None } else { SiteOrder::Group };
    let mut site = SiteStatus {
        slink,
        policy: "async".into(),
        state: SiteState::Streaming,
        consistent: true,
        order,
        ..SiteStatus::default()
    };
    site.limits.on_down = "bitmap".into();
    change(&mut site);
    site
}

fn lacks(site: &mut SiteStatus, writes: u64, lag_bytes: u64, lag_seconds: f64) {
    (site.lag_writes, site.lag_bytes, site.lag_seconds) = (writes, lag_bytes, lag_seconds);
    site.lag_groups = writes;
}

fn down(site: &mut SiteStatus) {
    site.state = SiteState::Down;
    site.failure = Some(SiteFailure {
        how: FailureKind::Hung,
        error: "a write for device 0 hangs".into(),
        seconds: 42.0,
        retry_seconds: Some(3.0),
        ..SiteFailure::default()
    });
}

fn lose(status: &mut Status, change: impl FnOnce(&mut LossStatus)) {
    let log = status.log.as_mut().unwrap();
    let mut loss = LossStatus::default();
    change(&mut loss);
    (log.failure, log.loss) = (Some("a write failed: EIO".into()), Some(loss));
}

/// A replicator that is well but for what is changed: two sites, a log that is 12 % full.
fn status(remote: impl FnOnce(&mut SiteStatus), change: impl FnOnce(&mut Status)) -> Status {
    let log = LogStatus {
        ring_used_bytes: 12,
        ring_bytes: 100,
        reads_from: Some(0),
        whole_copies: vec![0, 1],
        ..LogStatus::default()
    };
    let mut status = Status {
        name: "repl".into(),
        state: RunState::Running,
        log: Some(log),
        sites: vec![site(0, |_| ()), site(1, remote)],
        ..Status::default()
    };
    change(&mut status);
    status
}

/// A log that waits to have another size.
fn resized() -> Status {
    let resize = ResizeStatus {
        from_sectors: 8192,
        to_sectors: 16384,
        waits_for: "until site 1 has what lies behind the new end".into(),
    };
    status(|_| (), |status| status.log.as_mut().unwrap().resize = Some(resize))
}

/// Nobody has a complete copy that can be read.
fn no_copy(full: bool) -> Status {
    status(down, |status| {
        let log = status.log.as_mut().unwrap();
        (log.reads_from, log.full) = (None, full);
    })
}

/// What is said of site 1, and whether that is in sync.
fn said(remote: impl FnOnce(&mut SiteStatus)) -> (String, bool) {
    let reasons = why(&status(remote, |_| ()));
    let of_site = reasons.into_iter().find(|reason| reason.slink == Some(1)).unwrap();
    (of_site.to_string(), of_site.in_sync)
}

/// What is said of the whole; empty if nothing is.
fn said_of_all(remote: impl FnOnce(&mut SiteStatus), change: impl FnOnce(&mut Status)) -> String {
    let mut reasons = why(&status(remote, change)).into_iter();
    let of_all = reasons.find(|reason| reason.slink.is_none());
    of_all.map_or(String::new(), |reason| {
        assert!(!reason.in_sync);
        reason.to_string()
    })
}

#[test]
fn what_is_well_is_in_sync_and_there_is_one_sentence_for_each_site() {
    let reasons = why(&status(|_| (), |_| ()));
    let sentences: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(sentences, ["site 0: in sync", "site 1: in sync"]);
    assert!(reasons.iter().all(|reason| reason.in_sync));
}

#[test]
fn a_site_that_is_fed_as_fast_as_it_can_is_in_sync_with_something_on_its_way() {
    let (text, in_sync) = said(|site| lacks(site, 1, 4096, 0.02));
    assert_eq!(
        (text.as_str(), in_sync),
        ("site 1: in sync; on their way: 1 write (4 KiB, up to 20 ms old)", true)
    );
}

#[test]
fn a_local_site_may_lack_whatever_the_log_holds() {
    let reasons = why(&status(|_| (), |status| lacks(&mut status.sites[0], 900, 3 * MIB, 5.0)));
    let expected = "site 0: in sync; the log holds 900 writes (3 MiB, up to 5 s old) for it";
    assert_eq!(reasons[0].to_string(), expected);
    assert!(reasons[0].in_sync);
}

#[test]
fn every_cause_of_a_site_s_not_being_in_sync_has_its_sentence() {
    for (change, expected) in OF_A_SITE {
        assert_eq!(said(change), ((*expected).to_owned(), false));
    }
}

#[test]
fn who_makes_writers_wait_is_said_once_for_all_with_the_age_of_what_is_waited_for() {
    for (change, expected) in OF_WRITERS {
        assert_eq!(&said_of_all(change, |_| ()), expected);
    }
}

#[test]
fn a_full_log_is_blamed_on_the_site_that_keeps_its_head_back() {
    let full = |status: &mut Status| {
        status.log.as_mut().unwrap().full = true;
        status.sites[0].cursor = 100;
    };
    for (fate, end) in OF_A_FULL_LOG {
        let text = said_of_all(
            |site| {
                site.limits.on_full = *fate;
                lacks(site, 9, MIB, 40.0);
            },
            full,
        );
        assert_eq!(
            text,
            format!("the log is full of what site 1 lacks, the oldest of it 40 s old: {end}")
        );
    }
}

#[test]
fn what_stops_everybody_comes_before_what_stops_a_site() {
    for (change, expected) in OF_ALL {
        assert_eq!(&said_of_all(down, change), expected);
    }
}

#[test]
fn a_log_that_waits_to_have_another_size_is_told_of_and_is_no_trouble() {
    let said = why(&resized());
    assert!(said.iter().all(|reason| reason.in_sync));
    assert_eq!(
        said[0].to_string(),
        "the log has 8192 sectors, and waits until site 1 has what lies behind the new end to \
         have 16384"
    );
    assert_eq!(said[1].to_string(), "site 0: in sync");
}

#[test]
fn who_waits_for_a_complete_copy_is_told_where_there_is_one() {
    let lost = |full| why(&no_copy(full))[0].to_string();
    assert_eq!(lost(false), "reads wait for site 0 or site 1: no complete copy can be read");
    assert_eq!(
        lost(true),
        "reads and writers wait for site 0 or site 1: no complete copy can be read, and the log is full"
    );
}

// ---- every sentence

/// What is changed of something that is well.
type Change<T> = fn(&mut T);

const OF_A_SITE: &[(Change<SiteStatus>, &str)] = &[
    (
        |site| lacks(site, 812, 3 * MIB, 0.4),
        "site 1: behind: it lacks 812 writes (3 MiB, up to 400 ms old), and is fed one group a round trip",
    ),
    (
        |site| {
            lacks(site, 812, 3 * MIB, 0.4);
            site.order = SiteOrder::Flush;
        },
        "site 1: behind: it lacks 812 writes (3 MiB, up to 400 ms old), and is fed one flush epoch a round trip",
    ),
    (
        down,
        "site 1: down for 42 s: a write for device 0 hangs; next try in 3 s; the log keeps what it lacks (12 % full), then dirty regions",
    ),
    (
        |site| {
            down(site);
            site.limits.on_full = Fate::Hold;
            site.failure.as_mut().unwrap().retry_seconds = Some(0.0);
        },
        "site 1: down for 42 s: a write for device 0 hangs; tried again when that has ended; the log keeps what it lacks (12 % full), then writers wait",
    ),
    (
        |site| {
            down(site);
            let failure = site.failure.as_mut().unwrap();
            (failure.how, failure.retry_seconds) = (FailureKind::Error, Some(0.0));
            failure.error = "a read for device 0 failed: EIO".into();
        },
        "site 1: down for 42 s: a read for device 0 failed: EIO; being tried again; the log keeps what it lacks (12 % full), then dirty regions",
    ),
    (
        |site| {
            down(site);
            site.limits.on_full = Fate::Error;
        },
        "site 1: down for 42 s: a write for device 0 hangs; next try in 3 s; the log keeps what it lacks (12 % full), then writers get errors",
    ),
    (
        |site| {
            down(site);
            (site.sync, site.demoted) = (true, true);
        },
        "site 1: down for 42 s: a write for device 0 hangs; next try in 3 s; acknowledgements go on without it; the log keeps what it lacks (12 % full), then dirty regions",
    ),
    (
        |site| {
            down(site);
            (site.detached, site.dirty_bytes) = (true, GIB);
        },
        "site 1: down for 42 s: a write for device 0 hangs; next try in 3 s; what it lacks is in dirty regions (1 GiB)",
    ),
    (
        |site| {
            (site.state, site.detached) = (SiteState::Detached, true);
            site.detached_why = Some("the log was full of what it lacks".into());
            site.dirty_bytes = GIB;
        },
        "site 1: detached, since the log was full of what it lacks: 1 GiB in dirty regions are about to be copied",
    ),
    (
        |site| (site.detached, site.dirty_bytes) = (true, GIB),
        "site 1: detached: 1 GiB in dirty regions are about to be copied",
    ),
    (
        |site| (site.state, site.dirty_bytes) = (SiteState::Detached, GIB),
        "site 1: detached: 1 GiB in dirty regions are about to be copied",
    ),
    (
        |site| {
            (site.state, site.consistent) = (SiteState::Resyncing, false);
            let (copied, left) = (GIB + 600 * MIB, GIB + 205 * MIB);
            site.resync = Some(ResyncStatus::new(20.0, copied, left, 80 * MIB));
        },
        "site 1: being copied: 56 % (1.2 GiB of 2.8 GiB left at 80 MiB/s, about 15 s)",
    ),
    (
        |site| {
            site.state = SiteState::Resyncing;
            site.resync = Some(ResyncStatus::new(20.0, 0, GIB, 0));
            site.limits.resync_rate_bytes = 10 * MIB;
        },
        "site 1: being copied: 0 % (1 GiB of 1 GiB left, none of it in the last moments); its resync_rate is 10 MiB/s",
    ),
    (
        |site| (site.state, site.dirty_bytes) = (SiteState::Resyncing, GIB),
        "site 1: being copied: 1 GiB left",
    ),
    (
        |site| {
            site.consistent = false;
            lacks(site, 7, MIB, 2.0);
        },
        "site 1: everything is copied; consistent when it has 7 writes (1 MiB, up to 2 s old) from the log",
    ),
    (
        |site| {
            site.limits.fall_behind = Some("ios 100".into());
            site.limits.over = true;
            lacks(site, 120, MIB, 2.0);
        },
        "site 1: over its limit ios 100: it lacks 120 writes (1 MiB, up to 2 s old); writers are held to its pace",
    ),
    (
        |site| {
            site.demoted = true;
            lacks(site, 120, MIB, 2.0);
        },
        "site 1: demoted: acknowledgements wait for it again when it has 120 writes (1 MiB, up to 2 s old)",
    ),
    (|site| site.state = SiteState::Opening, "site 1: not known before the log is open"),
];

const OF_WRITERS: &[(Change<SiteStatus>, &str)] = &[
    (|_| (), ""),
    // A sync site that works makes every write wait a little.
    (
        |site| {
            (site.sync, site.waited_for, site.policy) = (true, true, "sync".into());
            lacks(site, 1, 4096, 0.02);
        },
        "",
    ),
    (
        |site| {
            (site.sync, site.waited_for, site.policy) = (true, true, "sync".into());
            lacks(site, 1, 4096, 4.0);
        },
        "writers wait for site 1, which is sync; the oldest write it lacks is 4 s old",
    ),
    (
        |site| {
            (site.sync, site.waited_for) = (true, true);
            lacks(site, 1, 4096, 4.0);
            down(site);
        },
        "writers wait for site 1, which is down; the oldest write it lacks is 4 s old",
    ),
    (
        |site| {
            (site.waited_for, site.limits.over) = (true, true);
            site.limits.fall_behind = Some("ios 100".into());
            lacks(site, 120, MIB, 0.3);
        },
        "writers wait for site 1, which is over its limit ios 100; the oldest write it lacks is 300 ms old",
    ),
    (
        |site| {
            site.sync = true;
            site.limits.on_down = "error".into();
            down(site);
        },
        "writers get errors: site 1 is down, and has `on_down:error`",
    ),
];

const OF_A_FULL_LOG: &[(Fate, &str)] = &[
    (Fate::Hold, "writers wait until it has taken some of it"),
    (Fate::Detach, "writers wait until that is in dirty regions"),
    (Fate::Error, "writers get errors, as `on_down:error` says"),
];

const OF_ALL: &[(Change<Status>, &str)] = &[
    (|status| status.state = RunState::Opening, "its log is being opened"),
    (|status| status.state = RunState::Stopping, "it is being stopped, and its sites catch up"),
    (|status| status.state = RunState::Stopped, "it is stopped"),
    (
        |status| {
            status.state = RunState::Failed;
            status.trouble = Some("damage at block 7".into());
        },
        "its log could not be opened: damage at block 7",
    ),
    (
        |status| lose(status, |_| ()),
        "writers wait: a write failed: EIO; the local disks are about to stand in for it",
    ),
    (
        |status| lose(status, |loss| loss.held = Some("only it has something".into())),
        "everything waits: a write failed: EIO; only it has something",
    ),
    (
        |status| lose(status, |loss| loss.bypassed = true),
        "there is no log: the devices go on against the local disks alone, and other sites \
         get nothing; `replicator message repl 0 replace-log [PATH]` makes a new one",
    ),
    (
        |status| {
            status.log.as_mut().unwrap().tail_full = true;
            status.sites[0].lag_seconds = 3.0;
        },
        "writers wait for site 0: memory is full of what it lacks, since 3 s",
    ),
    (
        |status| {
            let db = DeviceStatus { name: "db".into(), suspended: true, ..Default::default() };
            status.devices = vec![db, DeviceStatus::default()];
        },
        "the device db is suspended: its requests wait for `resume`",
    ),
    (
        |status| {
            let named = |name: &str| DeviceStatus {
                name: name.into(),
                suspended: true,
                ..Default::default()
            };
            status.devices = vec![named("db"), named("wal")];
        },
        "the devices db, wal are suspended: their requests wait for `resume`",
    ),
];
