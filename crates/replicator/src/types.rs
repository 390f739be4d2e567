//! The type registry of this program: every part that a table can name.
//!
//! A new type is one file, and one line here.

use dirty_log::DirtyLogClass;
use registry::{Class, Registry, RegistryError, Version};
use replog::{OpenSpec, Opening};
use slink::SlinkClass;

use crate::device::Device;
use crate::machine::Replicator;
use crate::plan::{DevicePlan, Plan, PlanError, Seed};

/// The class of targets: what a line of a table makes.
pub struct TargetClass;

/// What makes a target.
#[derive(Clone, Copy)]
pub enum TargetConstructor {
    /// A group: log, site links, devices.
    Group(fn(Plan, Seed, &Registry) -> Result<Replicator, PlanError>),
    /// A device of a group.
    Device(fn(&DevicePlan) -> Device),
}

impl Class for TargetClass {
    const NAME: &'static str = "target";
    type Constructor = TargetConstructor;
}

/// The class of replication logs.
pub struct ReplogClass;

impl Class for ReplogClass {
    const NAME: &'static str = "replog";
    type Constructor = fn(OpenSpec) -> Opening;
}

/// A registry that knows every type of this program.
///
/// # Panics
/// Never: the names below are different and well formed, which a test proves.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    register(&mut registry).expect("the built-in types have different, well-formed names");
    registry
}

fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    let version = Version(0, 1, 0);
    let group = TargetConstructor::Group(Replicator::composed);
    let device = TargetConstructor::Device(Device::new);
    registry.register::<TargetClass>("replicator", version, group)?;
    registry.register::<TargetClass>("replicator-dev", version, device)?;
    registry.register::<ReplogClass>("ringbuffer", version, Opening::new)?;
    registry.register::<SlinkClass>("blockdev", version, slink::blockdev)?;
    registry.register::<DirtyLogClass>("core", version, dirty_log::core)?;
    registry.register::<DirtyLogClass>("disk", version, dirty_log::disk)?;
    registry.register::<DirtyLogClass>("nolog", version, dirty_log::nolog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_type_can_be_looked_up() {
        let registry = registry();
        let names: Vec<_> = registry.types().iter().map(|t| (t.class, t.name)).collect();
        assert_eq!(
            names,
            [
                ("dirty-log", "core"),
                ("dirty-log", "disk"),
                ("dirty-log", "nolog"),
                ("replog", "ringbuffer"),
                ("slink", "blockdev"),
                ("target", "replicator"),
                ("target", "replicator-dev"),
            ]
        );
        assert!(registry.get::<SlinkClass>("blockdev").is_ok());
    }
}
