//! The directory of one replicator: its lock, and small files that are whole or absent.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::{FdFlags, fcntl_setfd};

use super::{Claim, Name, State, check_dir};

/// The place of one replicator in the runtime directory.
#[derive(Clone, Debug)]
pub(crate) struct GroupDir {
    path: PathBuf,
    name: Name,
}

/// Holds a replicator's name; given back when dropped, or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// Who lives in a replicator's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// Nothing was left here.
    Nobody,
    /// A daemon that is gone left its state; see [`GroupDir::state`].
    Gone,
    /// A daemon lives, with this process id (0: it is just starting).
    Alive(u32),
}

impl Lock {
    /// The lock, open in whatever program this process is made to be.
    pub(crate) fn given_on(self) -> std::io::Result<File> {
        fcntl_setfd(&self.file, FdFlags::empty())?;
        Ok(self.file)
    }
}

impl GroupDir {
    pub(super) fn new(path: PathBuf, name: Name) -> Self {
        Self { path, name }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Takes the name for this process, or says who has it.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let deadline = Instant::now() + PROBE_LIMIT;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                bail!(
                    "the name {} is taken: a daemon (process {}) serves it; \
                     `replicator remove {}` ends it",
                    self.name,
                    self.pid(),
                    self.name
                );
            }
            std::thread::sleep(PROBE_PAUSE);
        }
    }

    /// Takes the name over from the program that had it in this process until now.
    pub(crate) fn inherit(&self, lock: File) -> Result<Lock> {
        let path = self.path.join(LOCK);
        let is_it = is_same_file(&lock, &path) && lock.try_lock().is_ok();
        ensure!(is_it, "{}: expected to be given it, locked", path.display());
        fcntl_setfd(&lock, FdFlags::CLOEXEC).with_context(|| self.what("taking the lock of"))?;
        Ok(Lock { file: lock })
    }

    /// Takes the place of `other`, whose lock is held, and that one this one's, each with all that is in it. In one step:
    /// at no moment a name has both, or none.
    pub(crate) fn swap_with(&self, other: &Self) -> Result<()> {
        renameat_with(CWD, &self.path, CWD, &other.path, RenameFlags::EXCHANGE).with_context(|| {
            format!("renaming {} to {}", self.path.display(), other.path.display())
        })
    }

    /// Takes no more calls: who calls from now on is answered by a successor, or not at all.
    pub(crate) fn hang_up(&self) -> Result<()> {
        remove_if_there(&self.socket())
    }

    /// Who lives here. A look, not a claim: it can be outdated when it returns.
    pub(crate) fn tenant(&self) -> Result<Tenant> {
        let file = match File::open(self.path.join(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Tenant::Nobody),
            Err(error) => return Err(error).with_context(|| self.what("looking at the lock of")),
        };
        // Shared, and given back at once: `lock` waits for such a look to end.
        match file.try_lock_shared() {
            Ok(()) if self.path.join(STATE).exists() => Ok(Tenant::Gone),
            Ok(()) => Ok(Tenant::Nobody),
            Err(TryLockError::WouldBlock) => Ok(Tenant::Alive(self.pid())),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| self.what("looking at the lock of"))
            }
        }
    }

    /// The state a daemon left, if it is of this boot.
    pub(crate) fn state(&self) -> Result<Option<State>> {
        let Some(text) = self.read(STATE)? else { return Ok(None) };
        let state: State = serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: expected the state of a daemon; when none of its devices is left in \
                 /dev/ublkb*, remove {}",
                self.path.join(STATE).display(),
                self.path.display()
            )
        })?;
        Ok(Some(state).filter(State::is_of_this_boot))
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<()> {
        let text = serde_json::to_string_pretty(state).context("printing a state as JSON")?;
        self.write(STATE, &text)
    }

    /// Whether a device of it is called `name`, or was until now. Of a state that can't be read
    /// the table says so: another replicator is not to be kept from a name that is free.
    pub(super) fn has_device(&self, name: &Name) -> Result<bool> {
        let is_it = |of: &str| of == name.as_str();
        match self.state() {
            Ok(state) => {
                let mut devices = state.iter().flat_map(|state| &state.devices);
                Ok(devices.any(|device| device.names().any(is_it)))
            }
            Err(torn) => {
                let table = self.table()?.ok_or(torn)?;
                let mut names = table.lines().filter_map(|line| line.split_once(": "));
                Ok(names.any(|(of, _)| is_it(of)))
            }
        }
    }

    /// The disks of the daemon that lives or lived here.
    pub(super) fn claims(&self) -> Result<Vec<Claim>> {
        let Some(text) = self.read(DISKS)? else { return Ok(Vec::new()) };
        serde_json::from_str(&text).with_context(|| {
            format!("{}: expected the disks of a daemon", self.path.join(DISKS).display())
        })
    }

    pub(super) fn write_claims(&self, claims: &[Claim]) -> Result<()> {
        self.write(DISKS, &serde_json::to_string_pretty(claims).context("printing disks")?)
    }

    /// The canonical table of the daemon that lives or lived here.
    pub(crate) fn table(&self) -> Result<Option<String>> {
        self.read(TABLE)
    }

    pub(crate) fn write_table(&self, text: &str) -> Result<()> {
        self.write(TABLE, text)
    }

    /// Why the last daemon ended, if it ended badly.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.read(ERROR).ok().flatten().map(|text| text.trim().to_owned())
    }

    pub(crate) fn write_last_error(&self, sentence: &str) -> Result<()> {
        self.write(ERROR, sentence)
    }

    /// Forgets why the last daemon ended.
    pub(crate) fn clear_last_error(&self) -> Result<()> {
        remove_if_there(&self.path.join(ERROR))
    }

    /// Forgets everything; the lock goes last, so that nobody moves in too early.
    pub(crate) fn clear(&self, lock: Lock) -> Result<()> {
        for entry in fs::read_dir(&self.path).with_context(|| self.what("clearing"))? {
            let entry = entry.with_context(|| self.what("clearing"))?;
            if entry.file_name() != LOCK {
                remove_if_there(&entry.path())?;
            }
        }
        remove_if_there(&self.path.join(LOCK))?;
        drop(lock);
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(()),
            // A successor is already moving in.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) => Err(error).with_context(|| self.what("clearing")),
        }
    }

    fn try_lock(&self) -> Result<Option<Lock>> {
        let path = self.path.join(LOCK);
        loop {
            self.make_dir()?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = match options.open(&path) {
                Ok(file) => file,
                // `clear` of the predecessor took the directory away in between.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| self.what("taking the lock of")),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| self.what("taking the lock of"));
                }
            }
            // A file that its former owner unlinked while we waited guards nothing.
            if !is_same_file(&file, &path) {
                continue;
            }
            write_pid(&mut file).with_context(|| self.what("taking the lock of"))?;
            return Ok(Some(Lock { file }));
        }
    }

    fn pid(&self) -> u32 {
        self.read(LOCK).ok().flatten().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn make_dir(&self) -> Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(error).with_context(|| self.what("making"))
            }
            _ => self.check(),
        }
    }

    /// P15: what is in it was written by whoever serves it, and nobody else.
    fn check(&self) -> Result<()> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => check_dir(&self.path, rustix::process::geteuid().as_raw()),
        }
    }

    fn read(&self, file: &str) -> Result<Option<String>> {
        self.check()?;
        match fs::read_to_string(self.path.join(file)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("reading {}", self.path.join(file).display()))
            }
        }
    }

    /// Whole or not at all: a reader, and a daemon after a crash, never sees half a file.
    fn write(&self, file: &str, text: &str) -> Result<()> {
        let (new, path) = (self.path.join(format!("{file}.new")), self.path.join(file));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&new)
            .and_then(|mut opened| opened.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} {}", self.path.display())
    }
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

const LOCK: &str = "lock";
const DISKS: &str = "disks.json";
const STATE: &str = "state.json";
const TABLE: &str = "table";
const ERROR: &str = "error";

/// How long a mere look at the lock can hold it, generously.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
const PROBE_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
impl GroupDir {
    /// A state that nobody can read.
    pub(super) fn spoil_state(&self) {
        self.write(STATE, "{\"pid\":").expect("a scratch directory takes it");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scratch;
    use super::super::{DeviceState, State};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn group() -> (tempfile::TempDir, GroupDir) {
        let (home, dir) = scratch();
        let group = dir.group(&"repl".parse().unwrap());
        (home, group)
    }

    fn state() -> State {
        let device =
            DeviceState { name: "data".into(), was: None, nr: 0, ublk: 7, mark: 42, sectors: 8192 };
        State { devices: vec![device], ..State::of_this_process() }
    }

    #[test]
    fn a_name_is_taken_once_and_free_again_when_its_holder_is_gone() {
        let (_home, group) = group();
        let lock = group.lock().unwrap();
        assert_eq!(group.tenant().unwrap(), Tenant::Alive(std::process::id()));
        let refusal = group.lock().unwrap_err().to_string();
        assert!(refusal.contains("the name repl is taken"), "{refusal}");
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(lock);
        group.lock().unwrap();
    }

    #[test]
    fn a_lock_is_taken_over_only_by_who_was_given_it() {
        let (_home, group) = group();
        let given = group.lock().unwrap().given_on().unwrap();
        let other = File::open(group.path.join(LOCK)).unwrap();
        let refusal = group.inherit(other).unwrap_err().to_string();
        assert!(refusal.contains("lock: expected to be given it, locked"), "{refusal}");
        assert!(group.inherit(tempfile::tempfile().unwrap()).is_err());
        let lock = group.inherit(given).unwrap();
        assert_eq!(group.tenant().unwrap(), Tenant::Alive(std::process::id()));
        drop(lock);
        assert_eq!(group.tenant().unwrap(), Tenant::Nobody);
    }

    #[test]
    fn a_daemon_that_is_gone_is_recognised_by_its_lock_not_by_its_process_id() {
        let (_home, group) = group();
        let lock = group.lock().unwrap();
        group.write_state(&state()).unwrap();
        drop(lock);
        // The process of that id, this one, is alive all the same.
        assert_eq!(group.tenant().unwrap(), Tenant::Gone);
        assert_eq!(group.state().unwrap(), Some(state()));
    }

    #[test]
    fn a_start_that_never_got_as_far_as_a_state_left_nothing() {
        let (_home, group) = group();
        assert_eq!(group.tenant().unwrap(), Tenant::Nobody);
        drop(group.lock().unwrap());
        assert_eq!(group.tenant().unwrap(), Tenant::Nobody);
    }

    #[test]
    fn the_state_of_another_boot_is_no_state() {
        let (_home, group) = group();
        let _lock = group.lock().unwrap();
        group.write_state(&State { boot: "another".into(), ..state() }).unwrap();
        assert_eq!(group.state().unwrap(), None);
    }

    #[test]
    fn a_state_that_is_no_state_is_an_error_that_names_the_file() {
        let (_home, group) = group();
        let _lock = group.lock().unwrap();
        for damage in ["", "{", "[]", "{\"pid\":1}", "\u{0}"] {
            group.write(STATE, damage).unwrap();
            let refusal = group.state().unwrap_err().to_string();
            assert!(refusal.contains("state.json: expected the state of a daemon"), "{refusal}");
        }
    }

    #[test]
    fn what_others_could_have_written_is_not_read() {
        let (_home, group) = group();
        let _lock = group.lock().unwrap();
        group.write_table("0 1 replicator").unwrap();
        fs::set_permissions(&group.path, fs::Permissions::from_mode(0o777)).unwrap();
        let refusal = group.table().unwrap_err().to_string();
        assert!(refusal.contains("repl: expected mode 0700, found 0777"), "{refusal}");
        fs::set_permissions(&group.path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(group.table().unwrap().unwrap(), "0 1 replicator");
    }

    #[test]
    fn a_name_is_changed_with_all_that_is_there_and_its_holder_keeps_it() {
        let (home, dir) = scratch();
        let [old, new] = ["old", "new"].map(|name| dir.group(&name.parse().unwrap()));
        let lock = old.lock().unwrap();
        old.write_state(&state()).unwrap();
        let placeholder = new.lock().unwrap();
        old.swap_with(&new).unwrap();
        // A crash here: the old name is free, and the new one has everything.
        assert_eq!((old.state().unwrap(), new.state().unwrap()), (None, Some(state())));
        assert!(old.lock().unwrap_err().to_string().contains("is taken"), "not yet");
        old.clear(placeholder).unwrap();
        assert_eq!(old.tenant().unwrap(), Tenant::Nobody);
        assert_eq!(new.tenant().unwrap(), Tenant::Alive(std::process::id()));
        new.inherit(lock.given_on().unwrap()).unwrap();
        assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 1);
    }

    #[test]
    fn clearing_leaves_nothing_behind() {
        let (home, group) = group();
        let lock = group.lock().unwrap();
        group.write_state(&state()).unwrap();
        group.write_table("0 1 replicator").unwrap();
        group.write_last_error("it broke").unwrap();
        group.clear(lock).unwrap();
        assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 0);
    }

    #[test]
    fn the_last_error_is_told_until_a_daemon_lives_again() {
        let (_home, group) = group();
        let _lock = group.lock().unwrap();
        assert_eq!(group.last_error(), None);
        group.write_last_error("the log cannot be written\n").unwrap();
        assert_eq!(group.last_error().unwrap(), "the log cannot be written");
        group.clear_last_error().unwrap();
        group.clear_last_error().unwrap();
        assert_eq!(group.last_error(), None);
    }

    #[test]
    fn a_lock_file_that_was_unlinked_guards_nothing() {
        let (_home, group) = group();
        let first = group.lock().unwrap();
        fs::remove_file(group.path.join(LOCK)).unwrap();
        let second = group.lock().unwrap();
        drop(first);
        assert!(matches!(group.tenant().unwrap(), Tenant::Alive(_)));
        drop(second);
    }

    #[test]
    fn files_of_a_replicator_are_for_root_only() {
        let (_home, group) = group();
        let _lock = group.lock().unwrap();
        group.write_table("x").unwrap();
        for file in [LOCK, TABLE] {
            assert_eq!(fs::metadata(group.path.join(file)).unwrap().mode() & 0o777, 0o600);
        }
    }
}
