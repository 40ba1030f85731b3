//! The executor against a control plane and a cloud that fail in every way that they can: whatever happens, a launch is
//! carried out once, no machine is forgotten, and none that works is terminated.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

mod crashes;
mod cutting;
#[cfg(feature = "ec2")]
#[path = "../fake/ec2.rs"]
#[allow(dead_code, reason = "the provider's own tests use the rest")]
mod fake_ec2;
mod faults;
#[cfg(feature = "ec2")]
mod messages;
mod plane;
mod planner;
mod world;
