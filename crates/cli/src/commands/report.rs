//! `targets` and `version`: what this program is made of.

use anyhow::Result;
use registry::{Class, TypeInfo};
use replicator::types::{TargetClass, registry};
use ublk_target::Ublk;

use crate::output::{columns, print};

/// Lists the targets, as dmsetup does; with `-v`, every type that a table can name.
pub(super) fn targets(verbose: u8) -> Result<()> {
    let types = registry().types();
    let shown = types.iter().filter(|it| verbose > 0 || it.class == TargetClass::NAME);
    let row = |it: &TypeInfo| {
        let mut row = vec![it.name.to_owned(), format!("v{}", it.version)];
        row.extend((verbose > 0).then(|| it.class.to_owned()));
        row
    };
    print(&columns(&shown.map(row).collect::<Vec<_>>()))
}

/// Prints this program's version, and whether the kernel's driver will do.
pub(super) fn version() -> Result<()> {
    let driver = match Ublk::probe() {
        Ok(features) => format!("features {:#x}", features.0),
        Err(error) => error.to_string(),
    };
    let rows =
        [("Program version:", env!("CARGO_PKG_VERSION").to_owned()), ("ublk driver:", driver)];
    print(&columns(&rows.map(|(what, found)| vec![what.to_owned(), found])))
}
