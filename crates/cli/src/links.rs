//! `/dev/replicator/NAME`: symbolic links to the ublk devices, made and removed by the daemon.
//!
//! Only what a daemon made is ever replaced or removed: a link of the form `../ublkbN`. Where the
//! rules for udev are installed it makes the very same link; whoever comes second finds it there.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

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

    /// The path of the link to the device called `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(mangled(name))
    }

    /// Refuses a name whose place is taken by something that no daemon made.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let link = self.path(name);
        let len = mangled(name).len();
        ensure!(
            len <= MANGLED_MAX,
            "{}: expected at most {MANGLED_MAX} characters in the name of a link, found {len}: \
             all but letters, digits and {PLAIN} take four",
            link.display()
        );
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
        for _ in 0..DIR_TRIES {
            self.make_dir().with_context(what)?;
            self.check(name)?;
            match self.put(&link, ublk) {
                // Udev takes an empty directory away, also one that was just made.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                put => return put.with_context(what),
            }
        }
        bail!("{}: its directory was removed again and again", link.display())
    }

    fn make_dir(&self) -> io::Result<()> {
        match fs::create_dir(&self.dir) {
            // For every user of the devices, whatever the umask of a daemon.
            Ok(()) => fs::set_permissions(&self.dir, Permissions::from_mode(0o755)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// In one step, so that udev may do the same at the same time.
    fn put(&self, link: &Path, ublk: u32) -> io::Result<()> {
        if leads_to(link, ublk) {
            return Ok(());
        }
        // A name with a blank is no device's.
        let new = self.dir.join(format!("ublkb{ublk} of {}", std::process::id()));
        remove_if_there(&new)?;
        symlink(target(ublk), &new)?;
        fs::rename(&new, link)
    }

    /// Moves the link `from` of `/dev/ublkbN` to `to`: in one step, if it is where it was left.
    pub(crate) fn rename(&self, from: &str, to: &str, ublk: u32) -> Result<()> {
        self.check(to)?;
        let (old, new) = (self.path(from), self.path(to));
        // If udev was faster there is one of that name; replacing it by the same is no change.
        match leads_to(&old, ublk).then(|| fs::rename(&old, &new)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(error)
                .with_context(|| format!("moving the link {} to {}", old.display(), new.display())),
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => self.make(to, ublk),
        }
    }

    /// Removes the link `name` if it leads to `/dev/ublkbN`, and the directory with the last one.
    pub(crate) fn remove(&self, name: &str, ublk: u32) -> Result<()> {
        let link = self.path(name);
        if leads_to(&link, ublk) {
            remove_if_there(&link).with_context(|| format!("removing {}", link.display()))?;
        }
        // It stays while other links are in it, and if it never was.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }
}

/// A name as libdm has it in `/dev`: `\xNN` in place of what it takes to be unsafe there. Always,
/// as with `dmsetup --manglename hex`: else two names could have one link.
pub(crate) fn mangled(name: &str) -> String {
    let mut mangled = String::with_capacity(name.len());
    for byte in name.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || PLAIN.contains(c) {
            mangled.push(c);
        } else {
            mangled.push_str(&format!("\\x{byte:02x}"));
        }
    }
    mangled
}

fn leads_to(link: &Path, ublk: u32) -> bool {
    fs::read_link(link).is_ok_and(|found| found == Path::new(&target(ublk)))
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

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const DIR: &str = "/dev/replicator";
const TARGET: &str = "../ublkb";

/// Beside letters and digits; udev has the same list.
const PLAIN: &str = "#+-.:=@_";
/// `DM_NAME_LEN` of device-mapper, without its zero byte.
const MANGLED_MAX: usize = 127;
const DIR_TRIES: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

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
    fn a_name_is_mangled_as_libdm_does_and_no_two_become_one() {
        assert_eq!(mangled("vg-lv_1.a:b=c@d#e+f"), "vg-lv_1.a:b=c@d#e+f");
        assert_eq!(mangled("a$b%c\"d~"), r"a\x24b\x25c\x22d\x7e");
        assert_eq!(mangled(r"a\x24b"), r"a\x5cx24b");
        let (_home, links) = links();
        links.make("a$b", 3).unwrap();
        assert_eq!(fs::read_link(links.dir.join(r"a\x24b")).unwrap(), Path::new("../ublkb3"));
    }

    #[test]
    fn a_name_that_is_too_long_when_mangled_is_refused() {
        let (_home, links) = links();
        links.check(&"n".repeat(127)).unwrap();
        let refusal = links.check(&"$".repeat(32)).unwrap_err().to_string();
        assert!(refusal.contains("at most 127 characters") && refusal.contains("128"), "{refusal}");
    }

    #[test]
    fn a_link_that_udev_made_first_is_left_as_it_is() {
        let (_home, links) = links();
        links.make_dir().unwrap();
        symlink("../ublkb2", links.path("data")).unwrap();
        let before = fs::symlink_metadata(links.path("data")).unwrap();
        links.make("data", 2).unwrap();
        let after = fs::symlink_metadata(links.path("data")).unwrap();
        assert_eq!(before.ino(), after.ino());
    }

    #[test]
    fn a_link_moves_to_another_name_wherever_udev_has_left_it() {
        let (_home, links) = links();
        let names = |links: &Links| -> Vec<_> {
            let mut names: Vec<_> =
                fs::read_dir(&links.dir).unwrap().map(|it| it.unwrap().file_name()).collect();
            names.sort();
            names
        };
        links.make("data", 5).unwrap();
        links.rename("data", "wal", 5).unwrap();
        assert_eq!((names(&links), leads_to(&links.path("wal"), 5)), (vec!["wal".into()], true));
        // Udev has moved it already, or has made the new one and not yet removed the old one.
        links.rename("data", "wal", 5).unwrap();
        links.make("data", 5).unwrap();
        links.rename("data", "wal", 5).unwrap();
        assert_eq!(names(&links), ["wal"]);
        // Another's, and what nobody made, stay.
        links.make("data", 4).unwrap();
        links.rename("data", "wal", 5).unwrap();
        assert!(leads_to(&links.path("data"), 4) && leads_to(&links.path("wal"), 5));
        fs::write(links.path("file"), "precious").unwrap();
        assert!(links.rename("wal", "file", 5).is_err());
        assert!(leads_to(&links.path("wal"), 5));
    }

    #[test]
    fn a_link_that_a_successor_made_stays() {
        let (_home, links) = links();
        links.make("data", 5).unwrap();
        links.remove("data", 4).unwrap();
        assert!(fs::symlink_metadata(links.path("data")).is_ok());
    }
}
