//! From a table, wherever it comes from, to replicators that can be started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use table::{Entry, Group, TableFile, Target};

use crate::args::TableSource;
use crate::runtime::{GroupDir, Name};

/// One replicator of a table.
#[derive(Clone, Debug)]
pub(crate) struct Replicator {
    pub(crate) name: Name,
    /// Its lines, canonical, as `create` reads them.
    pub(crate) text: String,
    pub(crate) group: Group,
}

/// The replicators that the command line asks for, in the order of the table.
pub(crate) fn from_arguments(source: &TableSource) -> Result<Vec<Replicator>> {
    if source.all {
        let dir = std::env::var_os(DIR_VARIABLE).map_or_else(|| DIR.into(), PathBuf::from);
        return from_directory(&dir);
    }
    let file = match (&source.file, &source.concise) {
        (Some(path), _) => return from_file(path),
        (None, Some(concise)) => TableFile::parse_concise(concise)?,
        (None, None) => TableFile::parse(&source.table.join("\n"))?,
    };
    replicators(&file)
}

/// The replicators of a table file; `-` is standard input.
pub(crate) fn from_file(path: &Path) -> Result<Vec<Replicator>> {
    let (name, bytes) = read(path)?;
    let located = |error: table::TableError| error.in_file(name.clone());
    let file = TableFile::parse_bytes(&bytes).map_err(located)?;
    file.groups().map_err(located)?;
    replicators(&file).with_context(|| name.clone())
}

/// The replicators of all table files of a directory, in the order of the files' names.
fn from_directory(dir: &Path) -> Result<Vec<Replicator>> {
    let what = || format!("reading the directory of tables {}", dir.display());
    let entries: io::Result<Vec<_>> = fs::read_dir(dir).with_context(what)?.collect();
    let mut paths: Vec<PathBuf> =
        entries.with_context(what)?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == EXTENSION));
    paths.sort();
    ensure!(!paths.is_empty(), "{}: expected files *.{EXTENSION}, found none", dir.display());
    let mut found = Vec::new();
    let mut holders = BTreeMap::new();
    for path in &paths {
        for replicator in from_file(path)? {
            for name in names(&replicator) {
                if let Some(other) = holders.insert(name.clone(), path) {
                    let (path, other) = (path.display(), other.display());
                    bail!("{path}: the name {name} is taken by {other}; choose another one");
                }
            }
            found.push(replicator);
        }
    }
    Ok(found)
}

/// What a replicator makes: itself, and its devices.
fn names(replicator: &Replicator) -> impl Iterator<Item = String> {
    let devices = replicator.group.devices.iter().map(|device| device.name.clone());
    std::iter::once(replicator.name.to_string()).chain(devices)
}

/// The one replicator of a canonical table, as a daemon gets it.
pub(crate) fn from_text(text: &str) -> Result<Replicator> {
    let mut found = replicators(&TableFile::parse(text)?)?;
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (_, more) => bail!("expected one replicator, found {}", more + 1),
    }
}

/// The replicator of a daemon that lives or lived: called as its directory is, which the table says, too, except for a
/// moment in a rename.
pub(crate) fn left_in(group: &GroupDir) -> Result<Option<Replicator>> {
    let Some(text) = group.table()? else { return Ok(None) };
    let left = from_text(&text)?;
    if left.name == *group.name() {
        return Ok(Some(left));
    }
    let renamed = left.group.renamed(None, group.name().as_str())?;
    from_text(&renamed.file().to_string()).map(Some)
}

/// The replicator called `name`; without a name, the only one.
pub(crate) fn choose(found: Vec<Replicator>, name: Option<&Name>) -> Result<Replicator> {
    let names = || found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        ensure!(
            found.len() == 1,
            "the table has {} replicators ({}): expected one; choose with --name",
            found.len(),
            names()
        );
        return found.into_iter().next().ok_or_else(|| anyhow!("the table has no replicator"));
    };
    let known = names();
    let mut chosen = found.into_iter().filter(|it| it.name == *name);
    chosen.next().with_context(|| format!("the table has no replicator {name}; it has {known}"))
}

/// The replicator that has the device called `name`; an empty one becomes that of the only device.
pub(crate) fn choose_by_device(found: Vec<Replicator>, name: &mut String) -> Result<Replicator> {
    let devices = found.iter().flat_map(|it| &it.group.devices);
    let all: Vec<String> = devices.map(|it| it.name.clone()).collect();
    if let ([only], true) = (all.as_slice(), name.is_empty()) {
        name.clone_from(only);
    }
    let known = all.join(", ");
    ensure!(
        !name.is_empty(),
        "the table has {} devices ({known}): expected one; choose with --name",
        all.len()
    );
    let has_it = |it: &Replicator| it.group.devices.iter().any(|it| it.name == *name);
    let mut chosen = found.into_iter().filter(has_it);
    chosen.next().with_context(|| format!("the table has no device {name}; it has {known}"))
}

fn replicators(file: &TableFile) -> Result<Vec<Replicator>> {
    let groups = file.groups()?;
    ensure!(!groups.is_empty(), "expected a `replicator` line, found none");
    groups.into_iter().map(|group| replicator(file, group)).collect()
}

fn replicator(file: &TableFile, group: Group) -> Result<Replicator> {
    ensure!(
        !group.devices.is_empty(),
        "replicator {}: expected at least one device, found none; \
         its replicator-dev lines belong into the same table",
        group.name
    );
    let entries = file.entries.iter().filter(|entry| belongs_to(entry, &group)).cloned().collect();
    let text = TableFile { entries }.to_string();
    Ok(Replicator { name: group.name.parse()?, text, group })
}

fn belongs_to(entry: &Entry, group: &Group) -> bool {
    match &entry.target {
        Target::Replicator(_) => entry.name.as_ref() == Some(&group.name),
        Target::ReplicatorDev(table) => table.replicator == group.name,
    }
}

fn read(path: &Path) -> Result<(String, Vec<u8>)> {
    let stdin = path == Path::new("-");
    let name = if stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    // One byte more than a table may have: the parser then says what is wrong.
    let limit = table::limits::TEXT_BYTES_MAX as u64 + 1;
    let result = if stdin {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    result.with_context(|| format!("reading the table {name}"))?;
    Ok((name, bytes))
}

/// Where tables are that a host has for good, and what their names end with.
const DIR: &str = "/etc/replicator";
const DIR_VARIABLE: &str = "REPLICATOR_TABLE_DIR";
const EXTENSION: &str = "table";

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
        a: 0 1 replicator ringbuffer 4 /dev/a/log 0 auto 8192 blockdev 1 0
        b: 0 1 replicator ringbuffer 4 /dev/b/log 0 auto 8192 blockdev 1 0
        x: 0 4096 replicator-dev a 0 0 1 /dev/a/x nolog 0
        y: 0 4096 replicator-dev /dev/mapper/b 0 0 1 /dev/b/y nolog 0
        z: 0 4096 replicator-dev a 1 0 1 /dev/a/z nolog 0";

    fn two() -> Vec<Replicator> {
        replicators(&TableFile::parse(TWO).unwrap()).unwrap()
    }

    #[test]
    fn each_replicator_gets_its_own_lines_and_they_read_as_the_same_again() {
        let found = two();
        let names = |text: &str| {
            text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&found[0].text), ["a", "x", "z"]);
        assert_eq!(names(&found[1].text), ["b", "y"]);
        for replicator in found {
            let again = from_text(&replicator.text).unwrap();
            assert_eq!((again.group, again.text), (replicator.group, replicator.text));
        }
    }

    #[test]
    fn of_several_replicators_one_is_chosen_by_name() {
        assert_eq!(choose(two(), Some(&"b".parse().unwrap())).unwrap().name.as_str(), "b");
        let refusal = choose(two(), None).unwrap_err().to_string();
        assert!(refusal.contains("2 replicators (a, b)"), "{refusal}");
        let refusal = choose(two(), Some(&"c".parse().unwrap())).unwrap_err().to_string();
        assert!(refusal.contains("no replicator c; it has a, b"), "{refusal}");
    }

    #[test]
    fn a_device_is_chosen_by_its_name_or_as_the_only_one() {
        let chosen = |found, name: &str| {
            let mut name = name.to_owned();
            choose_by_device(found, &mut name).map(|it| (it.name.to_string(), name))
        };
        assert_eq!(chosen(two(), "z").unwrap(), ("a".into(), "z".into()));
        assert_eq!(chosen(two(), "y").unwrap(), ("b".into(), "y".into()));
        assert_eq!(chosen(vec![two().remove(1)], "").unwrap(), ("b".into(), "y".into()));
        let refusal = chosen(two(), "").unwrap_err().to_string();
        assert!(refusal.contains("3 devices (x, z, y): expected one"), "{refusal}");
        let refusal = chosen(two(), "b").unwrap_err().to_string();
        assert!(refusal.contains("no device b; it has x, z, y"), "{refusal}");
    }

    #[test]
    fn a_replicator_without_devices_is_refused() {
        let text = "a: 0 1 replicator ringbuffer 4 /dev/a/log 0 auto 8192 blockdev 1 0";
        let refusal = from_text(text).unwrap_err().to_string();
        assert!(refusal.contains("expected at least one device"), "{refusal}");
        assert!(from_text("").unwrap_err().to_string().contains("found none"));
    }

    #[test]
    fn an_error_in_a_file_names_the_file_and_the_place() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("table");
        std::fs::write(&path, "\na: 0 1 replicator ringbuffer two").unwrap();
        let refusal = format!("{:#}", from_file(&path).unwrap_err());
        assert!(refusal.starts_with(&format!("{}:2:", path.display())), "{refusal}");
        let refusal = format!("{:#}", from_file(Path::new("/nowhere")).unwrap_err());
        assert!(refusal.contains("reading the table /nowhere: No such file"), "{refusal}");
    }

    #[test]
    fn all_tables_of_a_directory_are_read_in_the_order_of_their_names_and_nothing_else_is() {
        let home = tempfile::tempdir().unwrap();
        let refusal = |dir: &Path| format!("{:#}", from_directory(dir).unwrap_err());
        let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
        let group = |name: &str, device: &str| {
            format!(
                "{name}: 0 1 replicator ringbuffer 4 /dev/{name}/log 0 auto 8192 blockdev 1 0\n\
                 {device}: 0 4096 replicator-dev {name} 0 0 1 /dev/{name}/x nolog 0\n"
            )
        };
        assert!(refusal(home.path()).contains("expected files *.table, found none"));
        write("2.table", &group("b", "y"));
        write("1.table", &group("a", "x"));
        write("1.table~", "an editor's");
        let found = from_directory(home.path()).unwrap();
        assert_eq!(found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        write("3.table", &group("c", "x"));
        let taken = refusal(home.path());
        assert!(taken.contains("3.table: the name x is taken by ") && taken.contains("1.table"));
        write("3.table", "c: 0 1 replicator ringbuffer two");
        assert!(refusal(home.path()).contains("3.table:1:"));
        assert!(refusal(Path::new("/nowhere")).contains("directory of tables /nowhere: No such"));
    }
}
