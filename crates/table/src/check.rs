//! What entries may not both claim: a name, and a backing device.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use crate::origin::Part;
use crate::{DirtyLogTable, Entry, ErrorKind, LegTable, TableError, Target};

/// Every name once, every backing device once.
///
/// Paths are compared as they are written; that two of them lead to one
/// device is found when they are opened.
pub(crate) fn entries(entries: &[Entry]) -> Result<(), TableError> {
    let mut names = BTreeMap::new();
    let mut paths = BTreeMap::new();
    for entry in entries {
        check_name(entry, &mut names)?;
        for used in uses(entry) {
            check_path(used, &mut paths)?;
        }
    }
    Ok(())
}

fn check_name<'e>(
    entry: &'e Entry,
    names: &mut BTreeMap<&'e str, &'e Entry>,
) -> Result<(), TableError> {
    let Some(name) = entry.name.as_deref() else { return Ok(()) };
    match names.insert(name, entry) {
        Some(first) => {
            let kind = ErrorKind::NameTaken { name: name.to_owned() };
            Err(entry.origin.error(Part::Name, kind).with_first(first.origin.position(Part::Name)))
        }
        None => Ok(()),
    }
}

fn check_path<'e>(used: Use<'e>, paths: &mut BTreeMap<&'e str, Use<'e>>) -> Result<(), TableError> {
    match paths.entry(used.path) {
        Slot::Vacant(free) => {
            free.insert(used);
            Ok(())
        }
        Slot::Occupied(first) => {
            let first = first.get();
            let kind = ErrorKind::PathTwice {
                path: used.path.to_owned(),
                role: used.role(),
                taken: first.role(),
            };
            let error = used.entry.origin.error(used.part, kind);
            Err(error.with_first(first.entry.origin.position(first.part)))
        }
    }
}

/// A backing device and what it is used for.
#[derive(Clone, Copy)]
struct Use<'e> {
    path: &'e str,
    entry: &'e Entry,
    part: Part,
}

impl Use<'_> {
    /// The use in words, such as "the RD of `db` on site link 2".
    fn role(self) -> String {
        let name = self.entry.name.as_deref();
        let of = name.map_or(String::new(), |name| format!(" of `{name}`"));
        let site = |nr: blk::SlinkNr| format!("{of} on site link {nr}");
        match (self.part, &self.entry.target) {
            (Part::LegPath(n), Target::ReplicatorDev(table)) if table.legs[n].slink.is_local() => {
                format!("the LD{of}")
            }
            (Part::LegPath(n), Target::ReplicatorDev(table)) => {
                format!("the RD{}", site(table.legs[n].slink))
            }
            (Part::DirtyLogPath(n), Target::ReplicatorDev(table)) => {
                format!("the dirty log{}", site(table.legs[n].slink))
            }
            (Part::MarkPath(n), Target::Replicator(table)) => {
                format!("the mark{}", site(table.slinks[n].nr))
            }
            _ => format!("the log{of}"),
        }
    }
}

/// The backing devices of `entry`, in the order of its words.
fn uses(entry: &Entry) -> Vec<Use<'_>> {
    let parts: Vec<(Part, &str)> = match &entry.target {
        Target::Replicator(table) => {
            let marks = table.slinks.iter().enumerate().filter_map(|(n, slink)| {
                slink.options.mark.as_deref().map(|mark| (Part::MarkPath(n), mark))
            });
            std::iter::once((Part::LogPath, table.log.path.as_str())).chain(marks).collect()
        }
        Target::ReplicatorDev(table) => table.legs.iter().enumerate().flat_map(leg_uses).collect(),
    };
    parts.into_iter().map(|(part, path)| Use { path, entry, part }).collect()
}

fn leg_uses((n, leg): (usize, &LegTable)) -> impl Iterator<Item = (Part, &str)> {
    let dirty_log = match &leg.dirty_log {
        DirtyLogTable::Disk { path, .. } => Some((Part::DirtyLogPath(n), path.as_str())),
        DirtyLogTable::Nolog | DirtyLogTable::Core { .. } => None,
    };
    std::iter::once((Part::LegPath(n), leg.path.as_str())).chain(dirty_log)
}
