//! Which disks a replicator has: for the others, who must not take the same ones (P15).
//!
//! The kernel sees that a path is used twice. It does not see that two paths lead to one
//! disk, nor that a loop device's file is used, nor what a daemon had that died and whose
//! devices wait for its successor.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use uring::Extent;

use super::{GroupDir, RuntimeDir, Tenant};

/// A disk that a replicator has, or had when its daemon died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    /// What it is to the replicator: "the log".
    pub(crate) role: String,
    /// By which path.
    pub(crate) path: String,
    /// Where its bytes are.
    pub(crate) of: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Where one replicator claims its disks.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    runtime: RuntimeDir,
    own: Arc<Mutex<GroupDir>>,
}

/// While it lives, nobody on this host claims anything.
#[derive(Debug)]
pub(crate) struct Claiming<'a> {
    claims: &'a Claims,
    _lock: File,
}

impl Claims {
    pub(super) fn new(runtime: RuntimeDir, own: GroupDir) -> Self {
        Self { runtime, own: Arc::new(Mutex::new(own)) }
    }

    /// Waits for whoever is claiming disks now.
    pub(crate) fn begin(&self) -> Result<Claiming<'_>> {
        let path = &self.runtime.path;
        let lock = File::open(path).and_then(|directory| directory.lock().map(|()| directory));
        let lock = lock.with_context(|| format!("locking {}", path.display()))?;
        Ok(Claiming { claims: self, _lock: lock })
    }

    /// The replicator has another name from now on.
    pub(crate) fn follow(&self, own: &GroupDir) {
        own.clone_into(&mut self.own());
    }

    fn own(&self) -> MutexGuard<'_, GroupDir> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A few words for another replicator that has some of these bytes.
    pub(crate) fn holder(&self, extent: &Extent) -> Result<Option<String>> {
        let own = self.own().name().clone();
        for group in self.runtime.groups()? {
            let name = group.name();
            let left = match group.tenant()? {
                _ if *name == own => continue,
                Tenant::Nobody => continue,
                Tenant::Alive(_) => "",
                // Nothing of it survives a reboot. What can't be read may be of this boot.
                Tenant::Gone if matches!(group.state(), Ok(None)) => continue,
                Tenant::Gone => ", whose daemon died: `recover` or `remove` it",
            };
            if let Some(claim) = group.claims()?.iter().find(|it| it.overlaps(extent)) {
                let Claim { role, path, .. } = claim;
                return Ok(Some(format!("the replicator {name} as {role} ({path}){left}")));
            }
        }
        Ok(None)
    }
}

impl Claiming<'_> {
    /// These are the disks of this replicator from now on.
    pub(crate) fn write(&self, claims: &[Claim]) -> Result<()> {
        self.claims.own().write_claims(claims)
    }
}

impl Claim {
    pub(crate) fn new(role: String, path: String, extent: &Extent) -> Self {
        let Extent { of, from, to } = extent;
        Self { role, path, of: of.to_string(), from: *from, to: *to }
    }

    fn overlaps(&self, extent: &Extent) -> bool {
        self.of == extent.of.as_str() && self.from < extent.to && extent.from < self.to
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scratch;
    use super::*;
    use std::fs;
    use std::path::Path;
    use uring::{Access, Disk, OpenSpec};

    #[test]
    fn whose_state_is_torn_keeps_its_disks_and_names_and_no_others() {
        let (home, dir) = scratch();
        let [its, other] = ["its", "other"].map(|name| extent_of(&home.path().join(name)));
        let torn = dir.group(&"torn".parse().unwrap());
        drop(torn.lock().unwrap());
        let claim = Claim::new("the log".to_owned(), "/dev/a".to_owned(), &its);
        torn.write_claims(&[claim]).unwrap();
        torn.write_table("torn: 0 1 replicator …\ndata: 0 8 replicator-dev …\n").unwrap();
        torn.spoil_state();

        let claims = dir.claims(&"other".parse().unwrap());
        let holder = claims.holder(&its).unwrap().unwrap();
        assert!(holder.contains("replicator torn as the log (/dev/a), whose daemon"), "{holder}");
        assert_eq!(claims.holder(&other).unwrap(), None);
        let holder = dir.holder_of(&"data".parse().unwrap()).unwrap().unwrap();
        assert_eq!(holder, "a device of the replicator torn");
        assert_eq!(dir.holder_of(&"free".parse().unwrap()).unwrap(), None);
    }

    fn extent_of(path: &Path) -> Extent {
        fs::write(path, [0; 4096]).unwrap();
        let spec = OpenSpec { access: Access::Look, ..OpenSpec::default() };
        Disk::open(path, &spec).unwrap().facts().extent.clone()
    }
}
