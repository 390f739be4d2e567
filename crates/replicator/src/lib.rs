//! The replicator and replicator-dev targets: log, site links and devices joined.
pub mod plan;
pub use plan::{DevicePlan, DiskFacts, LegPlan, LogPlan, Plan, Seed};
