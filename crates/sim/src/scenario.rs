//! Scripts in which something befalls a site, for sweeps: each walks a site through some of
//! detaching, resync, attaching and replay.

use blk::{DevNr, Op, Sector, Sectors, Span};
use table::{DirtyLogTable, Init, OnDown, OnLimit, Order, Policy, Sync};

use crate::engine;
use crate::topology::{Role, Topology};
use crate::workload::{Ask, Deed, Step, Workload};
use crate::world::weather::{Trouble, Whom};

/// A script and what it runs on.
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it runs on.
    pub topology: Topology,
    /// What happens.
    pub script: Workload,
    /// To which site.
    pub whom: Whom,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let make = |name, topology, steps| Scenario {
        name,
        topology,
        script: Workload::script(steps),
        whom: REMOTE,
    };
    let local = |name, topology, steps: Vec<Step>| {
        let steps = steps.into_iter().map(at_local_site).collect();
        Scenario { name, topology, script: Workload::script(steps), whom: LOCAL }
    };
    vec![
        make("outage", on_disk(), outage(Trouble::Absent)),
        make("outage-flush-order", with_order(on_disk(), Order::Flush), outage(Trouble::Fails)),
        make("hang", in_core(), outage(Trouble::Hangs)),
        make("overflow", on_disk(), overflow(Trouble::Absent)),
        make("overflow-core", in_core(), overflow(Trouble::Fails)),
        make("overflow-hang", on_disk(), overflow(Trouble::Hangs)),
        make("overflow-twice", on_disk(), overflow_twice()),
        make("overflow-slow", on_disk(), slow()),
        make("dirty-log-fails", on_disk(), dirty_log_fails()),
        make("resync-fails", on_disk(), resync_fails()),
        make("joins", joining(), joins()),
        make("sync", with_sync(in_core(), None), overflow(Trouble::Absent)),
        make("sync-hold", with_sync(on_disk(), Some(OnDown::Hold)), held()),
        make("limit", with_limit(on_disk()), overflow(Trouble::Slow(100))),
        make("replaced", on_disk(), replaced()),
        make("resize", resizable(), resize()),
        make("resize-outage", resizable(), resize_in_outage()),
        make("grow", growable(on_disk()), grow()),
        make("grow-core", growable(in_core()), grow()),
        make("grow-sync", growable(with_sync(on_disk(), Some(OnDown::Hold))), grow()),
        make("grow-outage", growable(on_disk()), grow_in_outage()),
        local("local-outage", in_core(), outage(Trouble::Absent)),
        local("local-hang", in_core(), outage(Trouble::Hangs)),
        local("local-overflow", in_core(), overflow(Trouble::Absent)),
        local("local-overflow-fails", local_on_disk(), overflow(Trouble::Fails)),
        local("local-overflow-hang", local_on_disk(), overflow(Trouble::Hangs)),
        local("local-overflow-twice", local_on_disk(), overflow_twice()),
        local("local-rebuild-fails", in_core(), resync_fails()),
        local("local-replaced", local_on_disk(), replaced()),
        local("local-sync", with_local_sync(in_core()), overflow(Trouble::Absent)),
        local("local-last-copy", in_core(), last_copy()),
    ]
}

/// Scripts in which the log is lost, and another takes its place.
#[must_use]
pub fn losses() -> Vec<Scenario> {
    let whom = Whom::Site(1);
    let make =
        |name, topology, steps| Scenario { name, topology, whom, script: Workload::script(steps) };
    vec![
        make("log-fails", on_disk(), log_lost(Trouble::Fails)),
        make("log-hangs", in_core(), log_lost(Trouble::Hangs)),
        make("log-gone-sync", with_sync(on_disk(), None), log_lost(Trouble::Absent)),
        make("log-fails-in-an-outage", on_disk(), log_lost_in_an_outage()),
    ]
}

// ---- what they run on

/// Two devices and one remote site; the first device is larger than the log's ring.
fn plain() -> Topology {
    let mut topology = Topology::plain(&[Sectors(1024), Sectors(16)], &[false, false], 512);
    for site in &mut topology.sites {
        site.link.options.timeout_io = Some(Span::from_millis(100));
    }
    topology
}

fn on_disk() -> Topology {
    let mut topology = plain();
    for (dev, leg) in (0..).map(DevNr).zip(&mut topology.sites[1].legs) {
        let path = engine::path(Role::DirtyLog { dev, site: 1 });
        let (region, init) = (Sectors(16), Some(Init::Nosync));
        *leg = Some(DirtyLogTable::Disk { path, region, init });
    }
    topology
}

/// The local dirty logs make a rebuild partial.
fn local_on_disk() -> Topology {
    let mut topology = plain();
    for (dev, dirty_log) in (0..).map(DevNr).zip(&mut topology.sites[0].legs) {
        let path = engine::path(Role::DirtyLog { dev, site: 0 });
        let (region, init) = (Sectors(16), Some(Init::Nosync));
        *dirty_log = Some(DirtyLogTable::Disk { path, region, init });
    }
    topology
}

fn with_local_sync(mut topology: Topology) -> Topology {
    topology.sites[0].link.policy = Some(Policy { sync: Sync::Sync, stall: false });
    topology
}

fn in_core() -> Topology {
    plain()
}

/// The log's disk has room for a larger log.
fn resizable() -> Topology {
    Topology { log: Sectors(8192), ..on_disk() }
}

/// The first device has longer disks than it needs.
fn growable(mut topology: Topology) -> Topology {
    let spare = Sectors(400);
    (topology.devices[0], topology.spare[0]) = (topology.devices[0] + spare, spare);
    topology
}

fn joining() -> Topology {
    let mut topology = on_disk();
    topology.holds_data = true;
    for leg in &mut topology.sites[1].legs {
        if let Some(DirtyLogTable::Disk { init, .. }) = leg {
            *init = Some(Init::Sync);
        }
    }
    topology
}

fn with_order(mut topology: Topology, order: Order) -> Topology {
    topology.sites[1].link.options.order = Some(order);
    topology
}

fn with_sync(mut topology: Topology, on_down: Option<OnDown>) -> Topology {
    topology.sites[1].link.policy = Some(Policy { sync: Sync::Sync, stall: false });
    topology.sites[1].link.options.on_down = on_down;
    topology
}

fn with_limit(mut topology: Topology) -> Topology {
    topology.sites[1].link.fall_behind = Some(table::FallBehind::Ios(3));
    topology.sites[1].link.options.on_limit = Some(OnLimit::Bitmap);
    topology
}

// ---- what happens

fn outage(trouble: Trouble) -> Vec<Step> {
    vec![
        small(0),
        strike(trouble),
        small(2),
        flush(),
        small(4),
        rest(Span::from_millis(200)),
        small(1),
        Step::Do(Deed::Heal),
        small(3),
        rest(Span::from_secs(2)),
        small(2),
        flush(),
    ]
}

fn overflow(trouble: Trouble) -> Vec<Step> {
    let mut steps = vec![small(0), flush(), strike(trouble), small(1)];
    steps.extend(fill());
    steps.extend([small(2), flush(), Step::Do(Deed::Heal), small(3), rest(Span::from_millis(700))]);
    steps.extend([small(4), rest(Span::from_millis(20)), small(1), rest(Span::from_secs(3))]);
    steps.extend([small(0), flush()]);
    steps
}

/// The local disks stand in for it until everything is healed.
fn log_lost(trouble: Trouble) -> Vec<Step> {
    let lose = Step::Do(Deed::Outage(Whom::Disk(Role::Log), trouble));
    vec![
        small(0),
        lose,
        small(1),
        flush(),
        small(2),
        rest(Span::from_millis(200)),
        small(3),
        Step::Do(Deed::Heal),
        small(4),
        rest(Span::from_secs(2)),
        small(1),
        flush(),
    ]
}

fn log_lost_in_an_outage() -> Vec<Step> {
    let mut steps = vec![small(0), flush(), strike(Trouble::Absent), small(1)];
    steps.extend(log_lost(Trouble::Fails));
    steps
}

/// The log fills again while the site is being copied to.
fn overflow_twice() -> Vec<Step> {
    let mut steps = vec![small(0), strike(Trouble::Absent)];
    steps.extend(fill());
    steps.extend([Step::Do(Deed::Heal), rest(Span::from_millis(480)), small(2)]);
    steps.extend(fill());
    steps.extend([small(3), rest(Span::from_millis(1)), small(4), rest(Span::from_secs(3))]);
    steps.push(small(1));
    steps
}

/// The site works all the time, but the log fills faster than it can take.
fn slow() -> Vec<Step> {
    let mut steps = vec![small(0), strike(Trouble::Slow(30))];
    steps.extend(fill());
    steps.extend(fill());
    steps.extend([small(1), flush(), Step::Do(Deed::Heal), small(2), rest(Span::from_secs(2))]);
    steps
}

/// The site's dirty logs are of no use when they are needed.
fn dirty_log_fails() -> Vec<Step> {
    let whom = |dev| Whom::Disk(Role::DirtyLog { dev: DevNr(dev), site: 1 });
    let mut steps = vec![small(0), strike(Trouble::Absent)];
    steps.push(Step::Do(Deed::Outage(whom(0), Trouble::Fails)));
    steps.push(Step::Do(Deed::Outage(whom(1), Trouble::Hangs)));
    steps.extend(fill());
    steps.extend([small(1), rest(Span::from_millis(300)), small(2), Step::Do(Deed::Heal)]);
    steps.extend([rest(Span::from_secs(2)), small(3)]);
    steps
}

/// The site fails again in the middle of its resync.
fn resync_fails() -> Vec<Step> {
    let mut steps = vec![small(0), strike(Trouble::Absent)];
    steps.extend(fill());
    steps.extend([Step::Do(Deed::Heal), rest(Span::from_millis(503)), small(1)]);
    steps.extend([strike(Trouble::Hangs), small(2), rest(Span::from_millis(300)), small(3)]);
    steps.extend([Step::Do(Deed::Heal), rest(Span::from_secs(3)), small(4)]);
    steps
}

fn joins() -> Vec<Step> {
    let mut steps = vec![small(0), flush(), small(1), rest(Span::from_millis(3)), small(2)];
    steps.extend([rest(Span::from_millis(10)), small(3), rest(Span::from_secs(1)), small(4)]);
    steps
}

fn held() -> Vec<Step> {
    vec![
        small(0),
        strike(Trouble::Absent),
        rest(Span::from_millis(10)),
        // The world heals what writers wait for.
        small(1),
        rest(Span::from_millis(10)),
        small(2),
        flush(),
    ]
}

fn replaced() -> Vec<Step> {
    vec![
        small(0),
        rest(Span::from_millis(50)),
        strike(Trouble::MediaLost),
        small(1),
        rest(Span::from_secs(1)),
        Step::Do(Deed::Heal),
        small(2),
        rest(Span::from_millis(700)),
        small(3),
        rest(Span::from_secs(2)),
        small(4),
    ]
}

/// The local site is lost, and then the last copy fails for a while: readers wait.
fn last_copy() -> Vec<Step> {
    let mut steps = vec![small(0), flush(), strike(Trouble::Absent), small(1)];
    steps.extend(fill());
    steps.extend([small(2), rest(Span::from_millis(300))]);
    steps.push(Step::Do(Deed::Outage(
        Whom::Disk(Role::Leg { dev: DevNr(1), site: 1 }),
        Trouble::Hangs,
    )));
    // The world heals what they wait for.
    steps.extend([read(0), small(3), read(1), rest(Span::from_secs(2)), small(4)]);
    steps
}

/// The log becomes longer and shorter, near the end of a lap and elsewhere.
fn resize() -> Vec<Step> {
    let to = |size| Step::Do(Deed::Resize(Sectors(size)));
    let mut steps = vec![small(0), to(5200), small(1), small(2), flush()];
    steps.extend(fill());
    steps.extend([small(3), to(4400), small(4), flush(), small(0), to(4096), small(1)]);
    steps.extend(fill());
    steps.extend([to(8192), small(2), small(3), to(4104), to(6000), small(4), flush()]);
    steps
}

/// It is asked for while the site is down and the log holds what it lacks.
fn resize_in_outage() -> Vec<Step> {
    let to = |size| Step::Do(Deed::Resize(Sectors(size)));
    let long = |sector| Step::Together(vec![write(0, sector, 800, false)]);
    let mut steps = vec![small(0), long(0), long(200), long(100), small(1), flush()];
    steps.extend([strike(Trouble::Absent), small(2), small(3), to(6000), long(0), small(4)]);
    steps.extend([rest(Span::from_millis(100)), Step::Do(Deed::Heal), small(1), flush()]);
    steps.extend([rest(Span::from_secs(2)), small(2), to(4096), small(3), flush()]);
    steps
}

/// The device becomes longer twice, and is written to there at once.
fn grow() -> Vec<Step> {
    let by = |sectors| Step::Do(Deed::Grow(Sectors(sectors)));
    let mut steps = vec![small(0), flush(), small(1), by(104), beyond(1020, 9), small(2)];
    steps.extend([rest(Span::from_millis(2)), small(3), by(296), beyond(1400, 20), flush()]);
    steps.extend([rest(Span::from_millis(600)), beyond(1120, 30), small(4), flush()]);
    steps.extend([rest(Span::from_secs(2)), small(1), flush()]);
    steps
}

/// It does so while its site is down, and the log holds, or does not, what that lacks.
fn grow_in_outage() -> Vec<Step> {
    let by = |sectors| Step::Do(Deed::Grow(Sectors(sectors)));
    let mut steps = vec![small(0), strike(Trouble::Absent), small(1), by(104), beyond(1020, 9)];
    steps.extend(fill());
    steps.extend([small(2), flush(), by(296), beyond(1400, 20), Step::Do(Deed::Heal), small(3)]);
    steps.extend([rest(Span::from_secs(2)), small(4), flush()]);
    steps
}

fn beyond(sector: u64, len: u64) -> Step {
    Step::Together(vec![write(0, sector, len, false), write(1, 2, 3, true)])
}

fn strike(trouble: Trouble) -> Step {
    Step::Do(Deed::Outage(REMOTE, trouble))
}

/// What befalls the remote site befalls the local one.
fn at_local_site(step: Step) -> Step {
    match step {
        Step::Do(Deed::Outage(REMOTE, trouble)) => Step::Do(Deed::Outage(LOCAL, trouble)),
        other => other,
    }
}

fn read(dev: u32) -> Step {
    let op = Op::Read { sector: Sector(0), len: Sectors(16) };
    Step::Together(vec![Ask { dev: DevNr(dev), op }])
}

fn rest(long: Span) -> Step {
    Step::Do(Deed::Rest(long))
}

fn flush() -> Step {
    Step::Together(vec![Ask { dev: DevNr(1), op: Op::Flush }])
}

/// A few writes on both devices, of which some overlap those of other turns.
fn small(turn: u64) -> Step {
    Step::Together(vec![
        write(0, turn * 3, 5, false),
        write(1, turn, 6, turn % 2 == 1),
        Ask {
            dev: DevNr(0),
            op: Op::Discard { sector: Sector(40 + turn * 8), len: Sectors(4 + turn) },
        },
        write(0, 1000 - turn * 10, 12, false),
    ])
}

/// More than the log's ring holds.
fn fill() -> Vec<Step> {
    let long = |sector| Step::Together(vec![write(0, sector, 800, false), write(1, 3, 2, false)]);
    vec![long(0), long(200), long(100), long(0), long(150)]
}

fn write(dev: u32, sector: u64, len: u64, fua: bool) -> Ask {
    Ask { dev: DevNr(dev), op: Op::Write { sector: Sector(sector), len: Sectors(len), fua } }
}

const LOCAL: Whom = Whom::Site(0);
const REMOTE: Whom = Whom::Site(1);
