//! What outlives a boot: what is to be known of a log that was lost.
//!
//! ```text
//! /var/lib/replicator/      0700 root; made when it is first needed
//!   NAME.log                replog::format::kept: whether a log may be replayed
//! ```
//!
//! Another name is given to it by a second link, so that it is there under both when the replicator takes that name; the
//! first link goes afterwards, or when it is read next.
//!
//! A record is trusted only if nobody but root can have written it (P15). It is whole or not
//! there: written beside its place, flushed, renamed, and the directory flushed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use blk::Errno;

use super::{Name, ROOT, check_dir, make_dir};

/// The record of one replicator.
#[derive(Clone, Debug)]
pub(crate) struct KeptFile {
    dir: PathBuf,
    /// All that know it follow its name.
    path: Arc<Mutex<PathBuf>>,
    owner: u32,
}

impl KeptFile {
    /// Where this host keeps it.
    pub(crate) fn of(name: &Name) -> Self {
        let dir =
            std::env::var_os(PATH_VARIABLE).map_or_else(|| DEFAULT_PATH.into(), PathBuf::from);
        Self::at(dir, name, ROOT)
    }

    fn at(dir: PathBuf, name: &Name, owner: u32) -> Self {
        let path = Arc::new(Mutex::new(place(&dir, name)));
        Self { dir, path, owner }
    }

    fn path(&self) -> MutexGuard<'_, PathBuf> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept; nothing if no log was ever lost.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>> {
        let path = self.path();
        let what = || format!("reading {}", path.display());
        let found = match fs::symlink_metadata(&*path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.with_context(what)?,
        };
        check_dir(&self.dir, self.owner)?;
        ensure!(
            found.is_file() && found.uid() == self.owner && found.mode() & 0o022 == 0,
            "{}: expected a file of user id {} that nobody else can write; others may have \
             written into it: what it says of the log can't be trusted",
            path.display(),
            self.owner
        );
        ensure!(
            found.len() <= BYTES_MAX,
            "{}: at most {BYTES_MAX} bytes expected, found {}",
            path.display(),
            found.len()
        );
        if found.nlink() > 1 {
            self.drop_other_names(&path, &found).with_context(what)?;
        }
        Ok(Some(fs::read(&*path).with_context(what)?))
    }

    /// What is kept by other names, as far as it can be read.
    pub(crate) fn others(&self) -> Result<Vec<(Name, Vec<u8>)>> {
        let what = || format!("reading {}", self.dir.display());
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(what)?,
        };
        let mut others = Vec::new();
        for entry in entries {
            let name = entry.with_context(what)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
            let Some(name): Option<Name> = name else { continue };
            let other = Self::at(self.dir.clone(), &name, self.owner);
            if *other.path() == *self.path() {
                continue;
            }
            match other.read() {
                Ok(bytes) => others.extend(bytes.map(|bytes| (name, bytes))),
                Err(error) => log::warn!("{error:#}"),
            }
        }
        Ok(others)
    }

    /// What `renamed` does gives the replicator the name `to`, and its record with it: should this process die, the record
    /// is there by the name that the replicator has then.
    pub(crate) fn rename(&self, to: &Name, renamed: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut path = self.path();
        let new = place(&self.dir, to);
        let is_there = self.link(&path, &new)?;
        if let Err(error) = renamed() {
            if is_there {
                fs::remove_file(&new).with_context(|| format!("removing {}", new.display()))?;
            }
            return Err(error);
        }
        let old = std::mem::replace(&mut *path, new);
        if is_there && let Err(error) = fs::remove_file(&old).and_then(|()| sync_dir(&self.dir)) {
            log::warn!("{}: it stays until it is read again: {error}", old.display());
        }
        Ok(())
    }

    /// Makes a second name for what is kept; whether anything is.
    fn link(&self, old: &Path, new: &Path) -> Result<bool> {
        let what = || format!("linking {} to {}", new.display(), old.display());
        let known = |path: &Path| -> Result<Option<Metadata>> {
            match fs::symlink_metadata(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                found => Ok(Some(found.with_context(what)?)),
            }
        };
        match (known(old)?, known(new)?) {
            (None, None) => return Ok(false),
            (Some(old), Some(new)) if (old.dev(), old.ino()) == (new.dev(), new.ino()) => {}
            (_, Some(_)) => bail!(
                "{}: expected nothing, found what is to be known of the log of another replicator of that name; if that \
                 is not to come again, remove the file",
                new.display()
            ),
            (Some(_), None) => fs::hard_link(old, new).with_context(what)?,
        }
        sync_dir(&self.dir).with_context(what)?;
        Ok(true)
    }

    /// A rename was cut short: the replicator has this name, or it would not be asked for.
    fn drop_other_names(&self, path: &Path, found: &Metadata) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let other = entry?;
            let it = other.metadata()?;
            if other.path() != path && (it.dev(), it.ino()) == (found.dev(), found.ino()) {
                fs::remove_file(other.path())?;
            }
        }
        sync_dir(&self.dir)
    }

    /// Keeps a record in the place of the one before.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        let kept = self.try_write(bytes);
        kept.map_err(|error| {
            log::error!("keeping what is to be known of a lost log: {error:#}");
            let io = error.downcast_ref::<std::io::Error>().and_then(|io| io.raw_os_error());
            io.map_or(Errno::EIO, Errno)
        })
    }

    fn try_write(&self, bytes: &[u8]) -> Result<()> {
        make_dir(&self.dir)?;
        check_dir(&self.dir, self.owner)?;
        let path = self.path();
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let what = || format!("writing {}", path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).with_context(what)?;
        file.write_all(bytes).with_context(what)?;
        file.sync_all().with_context(what)?;
        fs::rename(&new, &*path).with_context(what)?;
        sync_dir(&self.dir).with_context(what)?;
        // The directory itself may be new.
        self.dir.parent().map_or(Ok(()), sync_dir).with_context(what)
    }
}

fn place(dir: &Path, name: &Name) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

const DEFAULT_PATH: &str = "/var/lib/replicator";
const PATH_VARIABLE: &str = "REPLICATOR_STATE_DIR";
/// A header, and a superblock at its stated maxima.
const BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch() -> (tempfile::TempDir, KeptFile) {
        let home = tempfile::tempdir().unwrap();
        let me = rustix::process::geteuid().as_raw();
        let file = KeptFile::at(home.path().join("state"), &"db".parse().unwrap(), me);
        (home, file)
    }

    #[test]
    fn what_is_kept_is_read_again_and_replaced_as_a_whole() {
        let (_home, file) = scratch();
        assert_eq!(file.read().unwrap(), None);
        for bytes in [&b"first"[..], b"", b"second, and longer"] {
            file.write(bytes).unwrap();
            assert_eq!(file.read().unwrap().unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(&file.dir).unwrap().count(), 1, "nothing else is left there");
        assert_eq!(fs::metadata(&*file.path()).unwrap().mode() & 0o777, 0o600);
    }

    /// The same host's record of another name.
    fn named(file: &KeptFile, name: &str) -> KeptFile {
        KeptFile::at(file.dir.clone(), &name.parse().unwrap(), file.owner)
    }

    #[test]
    fn a_record_has_the_name_that_its_replicator_has_whenever_the_process_dies() {
        let (_home, file) = scratch();
        let east = "east".parse().unwrap();
        file.rename(&east, || Ok(())).unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.write(b"record").unwrap();
        assert_eq!(named(&file, "east").read().unwrap().unwrap(), b"record");
        let db = "db".parse().unwrap();
        let at_the_step = |renamed: bool| {
            move || {
                ensure!(renamed, "it could not");
                Ok(())
            }
        };
        assert!(file.rename(&db, at_the_step(false)).is_err());
        assert_eq!(fs::read_dir(&file.dir).unwrap().count(), 1);
        assert_eq!(file.read().unwrap().unwrap(), b"record");
        // Dead in the middle of it: whichever name the replicator has, it is there, and then by that one alone.
        for name in ["db", "east"] {
            let dead = named(&file, "east");
            assert!(dead.link(&place(&file.dir, &east), &place(&file.dir, &db)).unwrap());
            let left = named(&file, name);
            assert_eq!(left.read().unwrap().unwrap(), b"record");
            assert_eq!(fs::read_dir(&file.dir).unwrap().count(), 1, "{name}");
            left.rename(&east, || Ok(())).unwrap();
        }
        // Who knew it before writes to where it is.
        file.rename(&db, at_the_step(true)).unwrap();
        file.clone().write(b"newer").unwrap();
        assert_eq!(named(&file, "db").read().unwrap().unwrap(), b"newer");
    }

    #[test]
    fn what_another_replicator_left_is_not_taken_over_by_its_name() {
        let (_home, file) = scratch();
        named(&file, "east").write(b"another's").unwrap();
        for bytes in [None, Some(b"record")] {
            bytes.into_iter().for_each(|bytes| file.write(bytes).unwrap());
            let refusal = file.rename(&"east".parse().unwrap(), || panic!("nothing is done"));
            let refusal = refusal.unwrap_err().to_string();
            assert!(refusal.contains("east.log: expected nothing"), "{refusal}");
        }
        assert_eq!(named(&file, "east").read().unwrap().unwrap(), b"another's");
        let others = file.others().unwrap();
        assert_eq!(others, [("east".parse().unwrap(), b"another's".to_vec())]);
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let (home, file) = scratch();
        file.write(b"record").unwrap();
        fs::set_permissions(&*file.path(), fs::Permissions::from_mode(0o622)).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("can't be trusted"));
        fs::remove_file(&*file.path()).unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::write(&elsewhere, b"record").unwrap();
        symlink(&elsewhere, &*file.path()).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("can't be trusted"));
        fs::set_permissions(&file.dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(file.read().is_err() && file.write(b"record").is_err());
    }
}
