//! Topologies drawn from a seed: everything that a table can say of sites.

use blk::{Sectors, SlinkNr, Span};
use table::{
    DirtyLogTable, FallBehind, Init, LdLag, OnDown, OnLimit, Order, Policy, SlinkOptions,
    SlinkTable, Sync,
};

use super::{Role, Site, Topology};
use crate::engine;
use crate::rng::Rng;

impl Topology {
    /// Plain sites: `sync` or not, equal at first, well for ever.
    #[must_use]
    pub fn random_plain(rng: &mut Rng) -> Self {
        let (logical_block, devices) = devices(rng);
        let sync_in = *rng.pick(&[0, 0, 30]);
        let sync: Vec<bool> = (0..rng.range(1, 4)).map(|_| rng.chance(sync_in)).collect();
        Self::plain(&devices, &sync, logical_block)
    }

    /// Sites of every policy, with every dirty log, that may have to be copied at first.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let (logical_block, devices) = devices(rng);
        let sites = 1 + *rng.pick(&[1, 1, 1, 2, 2, 3]);
        let joins = *rng.pick(&[0, 0, 50, 100]);
        let mut all = vec![local(&devices, rng)];
        all.extend((1..sites).map(|nr| site(nr, &devices, joins, rng)));
        Self {
            spare: vec![Sectors(0); devices.len()],
            devices,
            sites: all,
            log: Sectors(4096),
            log_size: Sectors(4096),
            memory: super::MEMORY,
            logical_block,
            holds_data: joins > 0 && rng.chance(70),
            moves: false,
        }
    }
}

impl Topology {
    /// The same disks under another table: what it says of remote sites is drawn anew, but for
    /// their marks, the order in which they are fed, and how their legs joined. Now and then
    /// it leaves a leg out, or a site.
    #[must_use]
    pub fn retabled(&self, rng: &mut Rng) -> Self {
        let mut topology = self.clone();
        let leaves_out = *rng.pick(&[0, 15, 50]);
        for (nr, old) in topology.sites.iter_mut().enumerate().skip(1) {
            let mut new = site(nr, &self.devices, 0, rng);
            new.named = !rng.chance(leaves_out);
            new.link.options.order = old.link.options.order;
            // A mark that the table does not name any more says what was once true.
            new.link.options.mark = old.link.options.mark.take();
            for (dev, leg) in new.legs.iter_mut().enumerate() {
                let has = old.legs[dev].is_some() && new.named && !rng.chance(leaves_out);
                let length = self.devices[dev] - self.spare[dev];
                *leg = has.then(|| dirty_log(dev, nr, length, Init::Nosync, rng));
            }
            *old = new;
        }
        topology
    }
}

impl Topology {
    /// The same, with something else said of what is local: whether the LD is waited for, how
    /// long, and what memory holds of the log.
    #[must_use]
    pub fn rehomed(&self, rng: &mut Rng) -> Self {
        let mut topology = self.clone();
        let link = &mut topology.sites[0].link;
        if rng.chance(60) {
            let sync = if link.policy().sync == Sync::Sync { Sync::Async } else { Sync::Sync };
            link.policy = Some(Policy { sync, ..link.policy() });
        }
        if rng.chance(30) {
            link.options.timeout_io = Some(timeout(rng));
        }
        if rng.chance(30) {
            topology.memory =
                (*rng.pick(&[1 << 20, 3 << 20, 8 << 20]), *rng.pick(&[LdLag::Tail, LdLag::Log]));
        }
        topology
    }

    /// Longer disks for the same devices, which may grow then.
    pub fn make_room(&mut self, rng: &mut Rng) {
        for (disk, spare) in self.devices.iter_mut().zip(&mut self.spare) {
            *spare = Sectors(*rng.pick(&[0, 8, 64, 400]));
            *disk = Sectors(disk.0 + spare.0);
        }
    }

    /// The same with a longer device, if one can be; in whole blocks of either size.
    #[must_use]
    pub fn grown(&self, rng: &mut Rng) -> Option<Self> {
        let mut topology = self.clone();
        let dev = rng.index(self.devices.len());
        let most = self.spare[dev].0 / BLOCK;
        let by = *rng.pick(&[1, most, rng.clone().range(1, most.max(1))]);
        topology.spare[dev] = Sectors(self.spare[dev].0 - by.min(most) * BLOCK);
        (topology != *self).then_some(topology)
    }
}

fn devices(rng: &mut Rng) -> (u32, Vec<Sectors>) {
    let logical_block = if rng.chance(20) { 4096 } else { 512 };
    let sizes = (0..rng.range(1, 3)).map(|_| Sectors(*rng.pick(&[16, 40, 64, 256, 1000, 1024])));
    (logical_block, sizes.collect())
}

/// The local site: its dirty logs make a rebuild partial.
fn local(devices: &[Sectors], rng: &mut Rng) -> Site {
    let mut local = Site::plain(0, rng.chance(10), devices.len());
    local.link.options.timeout_io = Some(timeout(rng));
    if rng.chance(50) {
        let sizes = devices.iter().enumerate();
        let logs = sizes.map(|(dev, size)| dirty_log(dev, 0, *size, Init::Nosync, rng));
        local.legs = logs.map(Some).collect();
    }
    local
}

fn timeout(rng: &mut Rng) -> Span {
    Span::from_millis(*rng.pick(&[50, 100, 200, 500, 2000]))
}

fn site(nr: usize, devices: &[Sectors], joins: u64, rng: &mut Rng) -> Site {
    let sync = rng.chance(25);
    let link = SlinkTable {
        kind: "blockdev".to_owned(),
        nr: SlinkNr(u16::try_from(nr).expect("few sites")),
        policy: Some(Policy {
            sync: if sync { Sync::Sync } else { Sync::Async },
            stall: rng.chance(10),
        }),
        fall_behind: (!sync && rng.chance(40)).then(|| limit(rng)),
        options: options(nr, rng),
    };
    let dirty_log = |(dev, size): (usize, &Sectors), rng: &mut Rng| {
        let init = if rng.chance(joins) { Init::Sync } else { Init::Nosync };
        dirty_log(dev, nr, *size, init, rng)
    };
    // A site need not have every device, but one.
    let (kept, lacks) = (rng.index(devices.len()), *rng.pick(&[0, 0, 30]));
    let leg = |(dev, size): (usize, &Sectors)| {
        (dev == kept || !rng.chance(lacks)).then(|| dirty_log((dev, size), rng))
    };
    Site { link, legs: devices.iter().enumerate().map(leg).collect(), named: true }
}

fn options(site: usize, rng: &mut Rng) -> SlinkOptions {
    SlinkOptions {
        on_limit: *rng.pick(&[None, None, Some(OnLimit::Sync), Some(OnLimit::Bitmap)]),
        on_down: *rng.pick(&[
            None,
            None,
            None,
            None,
            None,
            Some(OnDown::Bitmap),
            Some(OnDown::Hold),
            Some(OnDown::Error),
        ]),
        timeout_io: Some(timeout(rng)),
        resync_rate: *rng.pick(&[None, None, None, Some(64 << 10), Some(1 << 20)]),
        order: *rng.pick(&[None, None, Some(Order::Group), Some(Order::Flush)]),
        mark: rng.chance(25).then(|| engine::path(Role::Mark { site })),
    }
}

fn limit(rng: &mut Rng) -> FallBehind {
    match rng.below(3) {
        0 => FallBehind::Ios(*rng.pick(&[1, 3, 20, 100])),
        1 => FallBehind::Size(*rng.pick(&[8 << 9, 64 << 9, 1000 << 9])),
        _ => FallBehind::Timeout(Span::from_millis(*rng.pick(&[1, 10, 100]))),
    }
}

fn dirty_log(dev: usize, site: usize, size: Sectors, init: Init, rng: &mut Rng) -> DirtyLogTable {
    let region = *rng.pick(&[8, 16, 64]);
    let region = Sectors(if region > size.0 { 8 } else { region });
    let init = Some(init);
    match rng.below(10) {
        // A device without one joins as one that is out of sync.
        0 => DirtyLogTable::Nolog,
        1..=4 => DirtyLogTable::Core { region, init },
        _ => {
            let dev = blk::DevNr(u32::try_from(dev).expect("few devices"));
            let path = engine::path(Role::DirtyLog { dev, site });
            DirtyLogTable::Disk { path, region, init }
        }
    }
}

/// Sectors of the larger logical block.
const BLOCK: u64 = 8;
