//! `rename`: another name for a replicator or a device, while it is in use.

use anyhow::{Context, Result};

use super::find::{Found, ask, find};
use crate::args::RenameArgs;
use crate::control::Request;
use crate::output::Progress;
use crate::runtime::RuntimeDir;

/// Returns when the links have the new name.
pub(super) fn rename(args: &RenameArgs, runtime: &RuntimeDir) -> Result<()> {
    let Found { group, device } = find(runtime, &args.name)?;
    let request = Request::Rename { device, to: args.to.to_string() };
    let mut progress = Progress::new(args.name.as_str());
    ask::<()>(&group, &request, |text| progress.show(text, 0, 0))
        .with_context(|| args.name.to_string())
}
