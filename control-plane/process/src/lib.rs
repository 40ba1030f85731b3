//! What every binary starts with: configuration layers, telemetry, metrics, the clock, the object store, the graceful stop.
//!
//! It knows none of Springtide's words: a job, a task or a node does not appear here.

pub mod clock;
pub mod config;
pub mod metrics;
pub mod objects;
pub mod stop;
pub mod telemetry;
