//! What outlives a boot: what is to be known of a log that was lost.
//!
//! ```text
//! /var/lib/replicator/      0700 root; made when it is first needed
//!   NAME.log                replog::format::kept: whether a log may be replayed
//! ```
//!
//! A record is trusted only if nobody but root can have written it (P15). It is whole or not
//! there: written beside its place, flushed, renamed, and the directory flushed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use blk::Errno;

use super::{Name, ROOT, check_dir, make_dir};

/// The record of one replicator.
#[derive(Clone, Debug)]
pub(crate) struct KeptFile {
    dir: PathBuf,
    path: PathBuf,
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
        let path = dir.join(format!("{name}.log"));
        Self { dir, path, owner }
    }

    /// What is kept; nothing if no log was ever lost.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>> {
        let what = || format!("reading {}", self.path.display());
        let found = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.with_context(what)?,
        };
        check_dir(&self.dir, self.owner)?;
        ensure!(
            found.is_file() && found.uid() == self.owner && found.mode() & 0o022 == 0,
            "{}: expected a file of user id {} that nobody else can write; others may have \
             written into it: what it says of the log can't be trusted",
            self.path.display(),
            self.owner
        );
        ensure!(
            found.len() <= BYTES_MAX,
            "{}: at most {BYTES_MAX} bytes expected, found {}",
            self.path.display(),
            found.len()
        );
        Ok(Some(fs::read(&self.path).with_context(what)?))
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
        let new = self.path.with_extension("log.new");
        let what = || format!("writing {}", self.path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).with_context(what)?;
        file.write_all(bytes).with_context(what)?;
        file.sync_all().with_context(what)?;
        fs::rename(&new, &self.path).with_context(what)?;
        sync_dir(&self.dir).with_context(what)?;
        // The directory itself may be new.
        self.dir.parent().map_or(Ok(()), sync_dir).with_context(what)
    }
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
        assert_eq!(fs::metadata(&file.path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let (home, file) = scratch();
        file.write(b"record").unwrap();
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("can't be trusted"));
        fs::remove_file(&file.path).unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::write(&elsewhere, b"record").unwrap();
        symlink(&elsewhere, &file.path).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("can't be trusted"));
        fs::set_permissions(&file.dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(file.read().is_err() && file.write(b"record").is_err());
    }
}
