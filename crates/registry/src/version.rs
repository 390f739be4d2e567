//! The version of a type, as device-mapper targets have one.

use std::fmt;

/// Major, minor and patch level; printed `1.2.3`.
///
/// As with device-mapper targets: a change of `major` breaks tables or status
/// lines, a change of `minor` adds to them, a change of `patch` does neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}
