//! What a daemon leaves on the host while it lives: one directory per replicator, root only.
//!
//! ```text
//! /run/replicator/          0700 root
//!   NAME/
//!     lock                  held (flock) while the daemon lives; contains its process id
//!     control               the daemon's socket
//!     table                 the canonical table
//!     disks.json            the disks it has, so that nobody takes one by another way
//!     state.json            the ublk devices, known before the first one starts
//!     error                 why the last daemon ended, if it ended badly
//!     log                   its log lines, where no syslog listens
//!   ublk.error              why the last `ublk add` or `ublk recover` failed: nobody sees it say so
//! ```
//!
//! The directory is trusted only if nobody but root can have written into it (P15).
//! What outlives a boot is elsewhere (`kept`). Who holds the lock lives; a lock that nobody holds is a daemon that is gone, whatever
//! its process id says.

mod claims;
mod group;
mod kept;
mod name;
mod pid_files;
mod state;

pub(crate) use claims::{Claim, Claims};
pub(crate) use group::{GroupDir, Lock, Tenant};
pub(crate) use kept::KeptFile;
pub(crate) use name::Name;
pub(crate) use pid_files::{Description, PidFiles, TYPE};
pub(crate) use state::{DeviceState, State};

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The directory that holds one directory per replicator.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
}

impl RuntimeDir {
    /// The host's directory, made if it is not there.
    pub(crate) fn open() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        ensure!(
            uid == ROOT,
            "expected to be started by root, found user id {uid}; use sudo or a root shell"
        );
        let path =
            std::env::var_os(PATH_VARIABLE).map_or_else(|| DEFAULT_PATH.into(), PathBuf::from);
        Self::open_at(path, ROOT)
    }

    /// A directory owned by `owner` and writable by nobody else; made if it is not there.
    fn open_at(path: PathBuf, owner: u32) -> Result<Self> {
        ensure!(
            path.is_absolute(),
            "runtime directory {}: expected an absolute path; correct {PATH_VARIABLE}",
            path.display()
        );
        make_dir(&path)?;
        check_dir(&path, owner)?;
        Ok(Self { path })
    }

    /// The place of one replicator, whether it exists or not.
    pub(crate) fn group(&self, name: &Name) -> GroupDir {
        GroupDir::new(self.path.join(name.as_str()), name.clone())
    }

    /// A few words for who is called `name`.
    pub(crate) fn holder_of(&self, name: &Name) -> Result<Option<String>> {
        for group in self.groups()? {
            if group.tenant()? == Tenant::Nobody {
                continue;
            }
            if group.name() == name {
                return Ok(Some("a replicator".to_owned()));
            }
            if group.has_device(name)? {
                return Ok(Some(format!("a device of the replicator {}", group.name())));
            }
        }
        Ok(None)
    }

    /// Keeps why the last command of ublksrv's front end failed; forgets it if it did not.
    pub(crate) fn write_front_end_error(&self, sentence: Option<&str>) -> Result<()> {
        let path = self.path.join(FRONT_END_ERROR);
        match (sentence, fs::remove_file(&path)) {
            (Some(sentence), _) => fs::write(&path, format!("{sentence}\n")),
            (None, Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
            (None, _) => Ok(()),
        }
        .with_context(|| format!("writing {}", path.display()))
    }

    /// Where the disks of a replicator are claimed.
    pub(crate) fn claims(&self, name: &Name) -> Claims {
        Claims::new(self.clone(), self.group(name))
    }

    /// Every replicator that left something here, in the order of names.
    pub(crate) fn groups(&self) -> Result<Vec<GroupDir>> {
        let what = || format!("reading the runtime directory {}", self.path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(what)? {
            let entry = entry.with_context(what)?;
            let is_dir = entry.file_type().with_context(what)?.is_dir();
            // What is not a replicator's directory is none of our business.
            let name = entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok());
            names.extend(name.filter(|_| is_dir));
        }
        names.sort();
        Ok(names.iter().map(|name| self.group(name)).collect())
    }
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot make the directory {}", path.display()))
        }
    }
}

pub(crate) fn check_dir(path: &Path, owner: u32) -> Result<()> {
    let shown = path.display();
    let found = fs::symlink_metadata(path)
        .with_context(|| format!("cannot look at the directory {shown}"))?;
    if !found.is_dir() {
        bail!("directory {shown}: expected a directory, found something else; remove it");
    }
    ensure!(
        found.uid() == owner,
        "directory {shown}: expected user id {owner} as its owner, found {}; \
         others may have written into it: remove it",
        found.uid()
    );
    let mode = found.mode() & 0o777;
    ensure!(
        mode & 0o022 == 0,
        "directory {shown}: expected mode 0700, found {mode:04o}; \
         others may have written into it: remove it"
    );
    Ok(())
}

const FRONT_END_ERROR: &str = "ublk.error";
const DEFAULT_PATH: &str = "/run/replicator";
const PATH_VARIABLE: &str = "REPLICATOR_RUNTIME_DIR";
pub(crate) const ROOT: u32 = 0;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    pub(crate) fn scratch() -> (tempfile::TempDir, RuntimeDir) {
        let home = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::open_at(home.path().join("run"), me()).unwrap();
        (home, dir)
    }

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn refusal(path: &Path, owner: u32) -> String {
        RuntimeDir::open_at(path.to_owned(), owner).unwrap_err().to_string()
    }

    #[test]
    fn a_new_runtime_directory_is_for_its_owner_only() {
        let (_home, dir) = scratch();
        assert_eq!(fs::metadata(&dir.path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let (_home, dir) = scratch();
        for mode in [0o777, 0o720, 0o702, 0o1777] {
            fs::set_permissions(&dir.path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(refusal(&dir.path, me()).contains("expected mode 0700"), "{mode:o}");
        }
    }

    #[test]
    fn a_directory_of_another_owner_is_refused() {
        let (_home, dir) = scratch();
        assert!(refusal(&dir.path, me() + 1).contains("as its owner, found"));
    }

    #[test]
    fn a_symbolic_link_or_a_file_in_place_of_the_directory_is_refused() {
        let (home, dir) = scratch();
        let (link, file) = (home.path().join("link"), home.path().join("file"));
        symlink(&dir.path, &link).unwrap();
        fs::write(&file, "").unwrap();
        assert!(refusal(&link, me()).contains("expected a directory"));
        assert!(refusal(&file, me()).contains("expected a directory"));
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert!(refusal(Path::new("run"), me()).contains("expected an absolute path"));
    }

    #[test]
    fn only_directories_with_a_proper_name_are_replicators() {
        let (_home, dir) = scratch();
        for name in ["b", "a", "not a name"] {
            fs::create_dir(dir.path.join(name)).unwrap();
        }
        fs::write(dir.path.join("file"), "").unwrap();
        let groups = dir.groups().unwrap();
        assert_eq!(groups.iter().map(|g| g.name().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
