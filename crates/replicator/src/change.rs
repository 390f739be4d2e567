//! What is different between two tables of one group, and whether it can be changed while
//! the group is in use.

use std::fmt;

use blk::{DevNr, Sectors, SlinkNr};
use table::{DirtyLogTable, Group, GroupDevice, LegTable, LogTable, SlinkTable};

/// One thing that a new table says differently, and that can be changed live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The size of the log.
    LogSize {
        /// As the table had it, if it said so.
        from: Option<Sectors>,
        /// As it is to be.
        to: Sectors,
    },
    /// How much of the log memory holds, and how far the LD may lag behind the log.
    LogMemory {
        /// As it was.
        from: LogTable,
        /// As it is from now on.
        to: LogTable,
    },
    /// A device that becomes longer.
    Grown {
        /// The device.
        dev: DevNr,
        /// As long as it was.
        from: Sectors,
        /// As long as it is to be.
        to: Sectors,
    },
    /// A device that is new, with its legs on all sites, new ones too.
    DeviceAdded(GroupDevice),
    /// A device that goes, with all its legs.
    DeviceRemoved {
        /// The device.
        dev: DevNr,
        /// Its name.
        name: String,
    },
    /// What is said of a site: policy, limit, options.
    Slink {
        /// As it was.
        from: SlinkTable,
        /// As it is from now on.
        to: SlinkTable,
    },
    /// A site that is new, with all legs that devices have there.
    SlinkAdded(SlinkTable),
    /// A site that goes, with all its legs.
    SlinkRemoved(SlinkNr),
    /// A leg that is new, on a site that stays.
    LegAdded {
        /// The device.
        dev: DevNr,
        /// What it is there.
        leg: LegTable,
    },
    /// A leg that goes, from a site that stays.
    LegRemoved {
        /// The device.
        dev: DevNr,
        /// The site.
        slink: SlinkNr,
    },
}

/// One thing that a new table says differently, and that stays as it is until the next start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fixed {
    /// Another group.
    #[error("the replicator's name is {expected}, the table's is {found}; `rename` changes it")]
    Name {
        /// The name it has.
        expected: String,
        /// The name in the table.
        found: String,
    },
    /// What is said of the log.
    #[error("the log is {from}, the table says {to}: {why}")]
    Log {
        /// As it is.
        from: String,
        /// As the table has it.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// What is said of a site.
    #[error("site {slink}: {what}: {why}")]
    Slink {
        /// The site.
        slink: SlinkNr,
        /// Which words.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// What is said of a device.
    #[error("device {dev} ({name}): {what}: {why}")]
    Device {
        /// Its number.
        dev: DevNr,
        /// Its name.
        name: String,
        /// Which words.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
}

/// What a new table changes, in the order in which it is done.
///
/// # Errors
/// Everything that can't be changed while the group is in use; then nothing is.
pub fn changes(old: &Group, new: &Group) -> Result<Vec<Change>, Vec<Fixed>> {
    let mut diff = Diff::default();
    if old.name != new.name {
        let (expected, found) = (old.name.clone(), new.name.clone());
        diff.fixed.push(Fixed::Name { expected, found });
    }
    diff.log(&old.table.log, &new.table.log);
    diff.slinks(old, new);
    diff.devices(old, new);
    // What goes makes room for what comes.
    diff.changes.sort_by_key(Change::step);
    if diff.fixed.is_empty() { Ok(diff.changes) } else { Err(diff.fixed) }
}

#[derive(Default)]
struct Diff {
    changes: Vec<Change>,
    fixed: Vec<Fixed>,
}

impl Diff {
    fn log(&mut self, old: &LogTable, new: &LogTable) {
        // How a log is found, or made, matters when it is opened.
        let place = |log: &LogTable| (log.kind.clone(), log.path.clone(), log.start);
        if place(old) != place(new) {
            let (from, to) = (old.to_string(), new.to_string());
            let why = "`replace-log` moves it";
            self.fixed.push(Fixed::Log { from, to, why });
        }
        let memory = |log: &LogTable| (log.tail_bytes(), log.ld_lag());
        if memory(old) != memory(new) {
            self.changes.push(Change::LogMemory { from: old.clone(), to: new.clone() });
        }
        // Who says no size takes the one there is.
        if let Some(to) = new.size.filter(|_| old.size != new.size) {
            self.changes.push(Change::LogSize { from: old.size, to });
        }
    }

    fn slinks(&mut self, old: &Group, new: &Group) {
        for from in &old.table.slinks {
            match new.table.slinks.iter().find(|to| to.nr == from.nr) {
                Some(to) if to == from => {}
                Some(to) => self.slink(from, to),
                None => self.changes.push(Change::SlinkRemoved(from.nr)),
            }
        }
        let known = |nr| old.table.slinks.iter().any(|slink| slink.nr == nr);
        for slink in new.table.slinks.iter().filter(|slink| !known(slink.nr)) {
            self.changes.push(Change::SlinkAdded(slink.clone()));
        }
    }

    fn slink(&mut self, from: &SlinkTable, to: &SlinkTable) {
        let nr = from.nr;
        let mut fixed = |differs: bool, what, why| {
            if differs {
                self.slink_fixed(nr, what, why);
            }
        };
        fixed(from.kind != to.kind, "its type", "another type is another site");
        self.changes.push(Change::Slink { from: from.clone(), to: to.clone() });
    }

    fn slink_fixed(&mut self, slink: SlinkNr, what: &'static str, why: &'static str) {
        self.fixed.push(Fixed::Slink { slink, what, why });
    }

    /// The legs of a device on sites that stay.
    fn legs(&mut self, old: &Group, new: &Group, (from, to): (&GroupDevice, &GroupDevice)) {
        let has = |group: &Group, nr| group.table.slinks.iter().any(|slink| slink.nr == nr);
        let stays = |leg: &&LegTable| has(old, leg.slink) && has(new, leg.slink);
        let of = |device: &GroupDevice, nr| {
            device.table.legs.iter().find(|leg| leg.slink == nr).cloned()
        };
        let dev = from.table.dev_nr;
        for leg in from.table.legs.iter().filter(stays) {
            match of(to, leg.slink) {
                Some(now) if same_leg(leg, &now) => {}
                Some(_) => {
                    let (name, what) = (from.name.clone(), "its disk, or its dirty log");
                    let why = match leg.slink.is_local() {
                        true => "take the device away, and add it anew",
                        false => "take it away from the site, and add it anew",
                    };
                    self.fixed.push(Fixed::Device { dev, name, what, why });
                }
                None => self.changes.push(Change::LegRemoved { dev, slink: leg.slink }),
            }
        }
        for leg in to.table.legs.iter().filter(stays) {
            if of(from, leg.slink).is_none() {
                self.changes.push(Change::LegAdded { dev, leg: leg.clone() });
            }
        }
    }

    fn devices(&mut self, old: &Group, new: &Group) {
        for from in &old.devices {
            let dev = from.table.dev_nr;
            if let Some(to) = new.devices.iter().find(|to| to.table.dev_nr == dev) {
                self.legs(old, new, (from, to));
            }
            let mut fixed = |what, why| {
                let name = from.name.clone();
                self.fixed.push(Fixed::Device { dev, name, what, why });
            };
            let Some(to) = new.devices.iter().find(|to| to.table.dev_nr == dev) else {
                let name = from.name.clone();
                self.changes.push(Change::DeviceRemoved { dev, name });
                continue;
            };
            if from.name != to.name {
                fixed("its name", "`rename` changes it");
            }
            if to.len < from.len {
                fixed("its size", "what lies behind its new end would be lost");
            }
            if to.len > from.len {
                let (from, to) = (from.len, to.len);
                self.changes.push(Change::Grown { dev, from, to });
            }
        }
        let known = |nr| old.devices.iter().any(|device| device.table.dev_nr == nr);
        for to in new.devices.iter().filter(|to| !known(to.table.dev_nr)) {
            self.changes.push(Change::DeviceAdded(to.clone()));
        }
    }
}

/// Whether two legs are the same, however they joined their site once.
fn same_leg(one: &LegTable, other: &LegTable) -> bool {
    let joined = |leg: &LegTable| {
        let mut dirty_log = leg.dirty_log.clone();
        match &mut dirty_log {
            DirtyLogTable::Core { init, .. } | DirtyLogTable::Disk { init, .. } => *init = None,
            DirtyLogTable::Nolog => {}
        }
        LegTable { dirty_log, ..leg.clone() }
    };
    joined(one) == joined(other)
}

impl Change {
    /// The site it is about, if it is about one.
    #[must_use]
    pub fn slink(&self) -> Option<SlinkNr> {
        match self {
            Self::LogSize { .. }
            | Self::LogMemory { .. }
            | Self::Grown { .. }
            | Self::DeviceAdded(_)
            | Self::DeviceRemoved { .. } => None,
            Self::Slink { to: table, .. } | Self::SlinkAdded(table) => Some(table.nr),
            Self::SlinkRemoved(nr) | Self::LegRemoved { slink: nr, .. } => Some(*nr),
            Self::LegAdded { leg, .. } => Some(leg.slink),
        }
    }

    /// When it is done.
    fn step(&self) -> u8 {
        match self {
            Self::LegRemoved { .. } | Self::DeviceRemoved { .. } => 0,
            Self::SlinkRemoved(_) => 1,
            Self::Slink { .. } => 2,
            // Its site may be new, too, and then asks which devices it has.
            Self::DeviceAdded(_) => 3,
            Self::SlinkAdded(_) => 4,
            Self::LegAdded { .. } => 5,
            Self::Grown { .. } => 6,
            Self::LogMemory { .. } => 7,
            Self::LogSize { .. } => 8,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogSize { from: Some(from), to } => {
                write!(f, "the log: its size of {from} sectors is to be {to}")
            }
            Self::LogSize { from: None, to } => {
                write!(f, "the log: its size is to be {to} sectors")
            }
            Self::LogMemory { from, to } => write!(f, "the log: {from} is now {to}"),
            Self::Grown { dev, from, to } => {
                write!(f, "device {dev}: grown from {from} to {to} sectors")
            }
            Self::DeviceAdded(device) => {
                let (dev, name, len) = (device.table.dev_nr, &device.name, device.len);
                write!(f, "device {dev} ({name}): added, {len} sectors")
            }
            Self::DeviceRemoved { dev, name } => write!(f, "device {dev} ({name}): removed"),
            Self::Slink { from, to } => write!(f, "site {}: {from} is now {to}", to.nr),
            Self::SlinkAdded(table) => write!(f, "site {}: added: {table}", table.nr),
            Self::SlinkRemoved(nr) => write!(f, "site {nr}: removed"),
            Self::LegAdded { dev, leg } => write!(f, "device {dev}: added to site: {leg}"),
            Self::LegRemoved { dev, slink } => write!(f, "device {dev}: removed from site {slink}"),
        }
    }
}
