//! System tests with real processes, and what they and the benchmarks share: a cluster of Springtide's own binaries on
//! free ports, in a directory of its own, gone when it is dropped. And [`simulation`]: the same parts in one thread, on a
//! virtual clock.
//!
//! The binaries are taken from the directory that this one was built into; `cargo xtask test` and `cargo xtask bench`
//! build them first.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

pub mod autoscaler;
pub mod bench;
pub mod binary;
pub mod chaos;
pub mod cluster;
pub mod docker;
pub mod history;
pub mod measure;
pub mod monitoring;
pub mod mutate;
pub mod posting;
pub mod process;
pub mod processes;
pub mod proxy;
pub mod servers;
pub mod simulation;
pub mod wait;
pub mod whole;

pub use cluster::{AgentOptions, Cluster, ClusterOptions};
pub use whole::Whole;
