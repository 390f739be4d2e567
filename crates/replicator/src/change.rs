//! What is different between two tables of one group, and whether it can be changed while
//! the group is in use.

use std::fmt;

use blk::{DevNr, SlinkNr};
use table::{Group, LegTable, LogTable, SlinkTable};

/// One thing that a new table says differently, and that can be changed live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is said of a site: policy, limit, options.
    Slink {
        /// As it was.
        from: SlinkTable,
        /// As it is from now on.
        to: SlinkTable,
    },
}

/// One thing that a new table says differently, and that stays as it is until the next start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fixed {
    /// Another group.
    #[error("the replicator's name is {expected}, the table's is {found}")]
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
        let as_opened = |log: &LogTable| LogTable { mode: old.mode, ..log.clone() };
        let size = old.size.and(new.size).is_some() && old.size != new.size;
        let rest = LogTable { size: old.size, ..as_opened(new) } != *old;
        for (differs, why) in [
            (rest, "its place, its tail and the LD's lag are those of its start"),
            (size, "its size is that of its start"),
        ] {
            if differs {
                let (from, to) = (old.to_string(), new.to_string());
                self.fixed.push(Fixed::Log { from, to, why });
            }
        }
    }

    fn slinks(&mut self, old: &Group, new: &Group) {
        for from in &old.table.slinks {
            match new.table.slinks.iter().find(|to| to.nr == from.nr) {
                Some(to) if to == from => {}
                Some(to) => self.slink(from, to),
                None => self.slink_fixed(from.nr, "it is not in the table", SITES),
            }
        }
        let known = |nr| old.table.slinks.iter().any(|slink| slink.nr == nr);
        for slink in new.table.slinks.iter().filter(|slink| !known(slink.nr)) {
            self.slink_fixed(slink.nr, "it is new", SITES);
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
        let mark = from.options.mark != to.options.mark;
        fixed(mark, "`mark:`", "its disk is opened at the start");
        if nr.is_local() {
            fixed(
                from.policy().sync != to.policy().sync,
                "`sync` or `async`",
                "the local site is fed in another way then",
            );
        }
        self.changes.push(Change::Slink { from: from.clone(), to: to.clone() });
    }

    fn slink_fixed(&mut self, slink: SlinkNr, what: &'static str, why: &'static str) {
        self.fixed.push(Fixed::Slink { slink, what, why });
    }

    fn devices(&mut self, old: &Group, new: &Group) {
        for from in &old.devices {
            let dev = from.table.dev_nr;
            let mut fixed = |what, why| {
                let name = from.name.clone();
                self.fixed.push(Fixed::Device { dev, name, what, why });
            };
            let Some(to) = new.devices.iter().find(|to| to.table.dev_nr == dev) else {
                fixed("it is not in the table", DEVICES);
                continue;
            };
            if from.name != to.name {
                fixed("its name", "users have it open by that");
            }
            if from.len != to.len {
                fixed("its size", "its users were told the one it has");
            }
            if !same_legs(&from.table.legs, &to.table.legs) {
                fixed("its legs", LEGS);
            }
        }
        let known = |nr| old.devices.iter().any(|device| device.table.dev_nr == nr);
        for to in new.devices.iter().filter(|to| !known(to.table.dev_nr)) {
            let (dev, name) = (to.table.dev_nr, to.name.clone());
            self.fixed.push(Fixed::Device { dev, name, what: "it is new", why: DEVICES });
        }
    }
}

fn same_legs(old: &[LegTable], new: &[LegTable]) -> bool {
    old.len() == new.len() && old.iter().all(|leg| new.contains(leg))
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slink { from, to } => write!(f, "site {}: {from} is now {to}", to.nr),
        }
    }
}

const SITES: &str = "sites come and go with a start";
const DEVICES: &str = "devices come and go with a start";
const LEGS: &str = "they are those of its start";
