//! Replicators with their devices: what the tables of one say about each other.

use std::collections::BTreeMap;

use blk::{DevNr, Sector, Sectors, SlinkNr};

use crate::edit::EditError;
use crate::limits::{DEVICES_MAX, LEGS_MAX};
use crate::name::check_name;
use crate::origin::Part;
use crate::{Entry, ErrorKind, ReplicatorDevTable, ReplicatorTable, TableError, TableFile, Target};

/// One replicator with its devices, cross-checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The replicator's name.
    pub name: String,
    /// Its log and site links.
    pub table: ReplicatorTable,
    /// Its devices, in the order of the file; there may be none yet.
    pub devices: Vec<GroupDevice>,
}

/// A device of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDevice {
    /// The device's name.
    pub name: String,
    /// Its size.
    pub len: Sectors,
    /// Its legs, each on a site link of the group.
    pub table: ReplicatorDevTable,
}

impl TableFile {
    /// The replicators, in the order of the file, each with its devices.
    ///
    /// Entries made in code are printed and read again first, so that nothing
    /// passes here that no table may say, and every error has a place.
    ///
    /// # Errors
    /// A device of an unknown replicator, a leg on an unknown site link, a
    /// device number twice, more of them than [`limits`](crate::limits) allow.
    pub fn groups(&self) -> Result<Vec<Group>, TableError> {
        if self.entries.iter().any(|entry| !entry.origin.is_known()) {
            return Self::parse(&self.to_string())?.groups();
        }
        crate::check::entries(&self.entries)?;
        let mut groups: Vec<Draft<'_>> = self.entries.iter().filter_map(Draft::new).collect();
        let index: BTreeMap<&str, usize> =
            groups.iter().enumerate().map(|(i, group)| (group.name, i)).collect();
        for entry in &self.entries {
            if let Target::ReplicatorDev(table) = &entry.target {
                let found = index.get(table.replicator.as_str());
                let i = *found.ok_or_else(|| unknown(entry, table, &index))?;
                groups[i].add(entry, table)?;
            }
        }
        Ok(groups.into_iter().map(Draft::finish).collect())
    }
}

impl Group {
    /// Its tables, as a file has them.
    #[must_use]
    pub fn file(&self) -> TableFile {
        let entry =
            |name: &str, len, target| Entry::new(Some(name.to_owned()), Sector(0), len, target);
        let group = entry(&self.name, Sectors(1), Target::Replicator(self.table.clone()));
        let device =
            |it: &GroupDevice| entry(&it.name, it.len, Target::ReplicatorDev(it.table.clone()));
        let entries = std::iter::once(group).chain(self.devices.iter().map(device)).collect();
        TableFile { entries }
    }

    /// The same group, with another name for one of its devices, or for itself.
    ///
    /// # Errors
    /// A name that no table may have, or that something else in it has.
    pub fn renamed(&self, dev: Option<DevNr>, name: &str) -> Result<Self, EditError> {
        // Printed and read again it could be another table's words.
        check_name(name).map_err(EditError::Table)?;
        let mut group = self.clone();
        let devices = group.devices.iter_mut();
        match dev {
            Some(dev) => devices
                .filter(|device| device.table.dev_nr == dev)
                .for_each(|device| name.clone_into(&mut device.name)),
            None => {
                devices.for_each(|device| name.clone_into(&mut device.table.replicator));
                name.clone_into(&mut group.name);
            }
        }
        group.checked().map_err(|error| EditError::Table(error.into_kind()))
    }

    /// The same group, if a table may say it.
    ///
    /// # Errors
    /// What no table may say.
    pub fn checked(&self) -> Result<Self, TableError> {
        let mut groups = self.file().groups()?;
        Ok(groups.pop().expect("the tables of a group are those of a group"))
    }
}

fn unknown(entry: &Entry, table: &ReplicatorDevTable, index: &BTreeMap<&str, usize>) -> TableError {
    let kind = ErrorKind::ReplicatorUnknown {
        name: table.replicator.clone(),
        known: index.keys().map(|&name| name.to_owned()).collect(),
    };
    entry.origin.error(Part::Replicator, kind)
}

/// A group whose devices are being collected.
struct Draft<'e> {
    name: &'e str,
    table: &'e ReplicatorTable,
    devices: Vec<(&'e Entry, &'e ReplicatorDevTable)>,
    legs: usize,
}

impl<'e> Draft<'e> {
    fn new(entry: &'e Entry) -> Option<Self> {
        match &entry.target {
            Target::Replicator(table) => {
                let name = entry.name.as_deref().unwrap_or_default();
                Some(Self { name, table, devices: Vec::new(), legs: 0 })
            }
            Target::ReplicatorDev(_) => None,
        }
    }

    fn add(&mut self, entry: &'e Entry, table: &'e ReplicatorDevTable) -> Result<(), TableError> {
        let replicator = || self.name.to_owned();
        if self.devices.len() == DEVICES_MAX {
            let kind = ErrorKind::Devices { replicator: replicator() };
            return Err(entry.origin.error(Part::Name, kind));
        }
        if self.legs + table.legs.len() > LEGS_MAX {
            let kind = ErrorKind::Legs { replicator: replicator() };
            return Err(entry.origin.error(Part::Name, kind));
        }
        self.check_slinks(entry, table)?;
        self.check_dev_nr(entry, table.dev_nr)?;
        self.legs += table.legs.len();
        self.devices.push((entry, table));
        Ok(())
    }

    fn check_slinks(&self, entry: &Entry, table: &ReplicatorDevTable) -> Result<(), TableError> {
        let known: Vec<SlinkNr> = self.table.slinks.iter().map(|slink| slink.nr).collect();
        let Some(stray) = table.legs.iter().position(|leg| !known.contains(&leg.slink)) else {
            return Ok(());
        };
        let (nr, replicator) = (table.legs[stray].slink, self.name.to_owned());
        let kind = ErrorKind::SlinkUnknown { nr, replicator, known };
        Err(entry.origin.error(Part::LegSlink(stray), kind))
    }

    fn check_dev_nr(&self, entry: &Entry, nr: DevNr) -> Result<(), TableError> {
        let Some((first, _)) = self.devices.iter().find(|(_, table)| table.dev_nr == nr) else {
            return Ok(());
        };
        let taken = first.name.clone().unwrap_or_default();
        let kind = ErrorKind::DevNrTwice { nr, replicator: self.name.to_owned(), taken };
        Err(entry.origin.error(Part::DevNr, kind).with_first(first.origin.position(Part::DevNr)))
    }

    fn finish(self) -> Group {
        let device = |(entry, table): (&Entry, &ReplicatorDevTable)| GroupDevice {
            name: entry.name.clone().unwrap_or_default(),
            len: entry.len,
            table: table.clone(),
        };
        Group {
            name: self.name.to_owned(),
            table: self.table.clone(),
            devices: self.devices.into_iter().map(device).collect(),
        }
    }
}
