//! What the benchmarks measure, each a program `bench-NAME` that `cargo xtask bench NAME` runs.

pub mod cancel;
pub mod celery;
pub mod free_slot;
pub mod ours;
pub mod raw;
