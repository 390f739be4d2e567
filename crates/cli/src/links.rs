//! `/dev/replicator/NAME`: symbolic links to the ublk devices, made and removed by the daemon.
//!
//! Only what a daemon made is ever replaced or removed: a link of the form `../ublkbN`.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directory of the links.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    dir: PathBuf,
}

impl Links {
    /// The host's `/dev/replicator`.
    pub(crate) fn of_host() -> Self {
        Self { dir: DIR.into() }
    }

    /// The path of the link called `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Refuses a name whose place is taken by something that no daemon made.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let link = self.path(name);
        match fs::symlink_metadata(&link) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("looking at {}", link.display())),
            Ok(_) if is_ours(&link) => Ok(()),
            Ok(_) => bail!(
                "{}: expected nothing or a link to a ublk device, found something else; \
                 move it away",
                link.display()
            ),
        }
    }

    /// Makes the link `name` to `/dev/ublkbN`; a link of a daemon that is gone is replaced.
    pub(crate) fn make(&self, name: &str, ublk: u32) -> Result<()> {
        let link = self.path(name);
        let what = || format!("making the link {}", link.display());
        match fs::create_dir(&self.dir) {
            // For every user of the devices, whatever the umask of a daemon.
            Ok(()) => fs::set_permissions(&self.dir, Permissions::from_mode(0o755)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
        .with_context(what)?;
        self.check(name)?;
        remove_if_there(&link).with_context(what)?;
        symlink(target(ublk), &link).with_context(what)
    }

    /// Removes the link `name` if it leads to `/dev/ublkbN`, and the directory with the last one.
    pub(crate) fn remove(&self, name: &str, ublk: u32) -> Result<()> {
        let link = self.path(name);
        if fs::read_link(&link).is_ok_and(|found| found == Path::new(&target(ublk))) {
            remove_if_there(&link).with_context(|| format!("removing {}", link.display()))?;
        }
        // It stays while other links are in it, and if it never was.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }
}

fn target(ublk: u32) -> String {
    format!("{TARGET}{ublk}")
}

fn is_ours(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| {
        target
            .to_str()
            .and_then(|target| target.strip_prefix(TARGET))
            .is_some_and(|nr| nr.parse::<u32>().is_ok())
    })
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const DIR: &str = "/dev/replicator";
const TARGET: &str = "../ublkb";

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> (tempfile::TempDir, Links) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("replicator");
        (home, Links { dir })
    }

    #[test]
    fn the_last_link_takes_the_directory_with_it() {
        let (home, links) = links();
        links.make("data", 0).unwrap();
        links.make("wal", 1).unwrap();
        assert_eq!(fs::read_link(links.path("data")).unwrap(), Path::new("../ublkb0"));
        links.remove("data", 0).unwrap();
        links.remove("wal", 1).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_of_a_daemon_that_is_gone_is_replaced() {
        let (_home, links) = links();
        links.make("data", 7).unwrap();
        links.make("data", 0).unwrap();
        assert_eq!(fs::read_link(links.path("data")).unwrap(), Path::new("../ublkb0"));
    }

    #[test]
    fn what_no_daemon_made_is_neither_replaced_nor_removed() {
        let (_home, links) = links();
        links.make("other", 1).unwrap();
        fs::write(links.path("file"), "precious").unwrap();
        symlink("../sda", links.path("disk")).unwrap();
        symlink("../ublkbx", links.path("odd")).unwrap();
        for name in ["file", "disk", "odd"] {
            let refusal = links.make(name, 0).unwrap_err().to_string();
            assert!(refusal.contains("found something else"), "{refusal}");
            links.remove(name, 0).unwrap();
            assert!(fs::symlink_metadata(links.path(name)).is_ok(), "{name} is gone");
        }
    }

    #[test]
    fn a_link_that_a_successor_made_stays() {
        let (_home, links) = links();
        links.make("data", 5).unwrap();
        links.remove("data", 4).unwrap();
        assert!(fs::symlink_metadata(links.path("data")).is_ok());
    }
}
