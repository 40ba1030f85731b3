//! The control plane: takes jobs over HTTP, keeps them in the store, releases their tasks into lanes, folds what the
//! nodes report back into the store, and tells the users.
//!
//! ```text
//!            http ──submit──► store ◄──fold── projector ◄── events ── agents
//!              ▲                │                 │                     ▲
//!              │             releaser ──publish──► lane queues ─────────┘
//!           changes ◄───────────┴─────────────────┤
//!                                             registry ◄── heartbeats
//! ```
//!
//! Every replica serves HTTP; one of them, by a lease with fencing in the store, runs [`leader`]: the releaser, the
//! projector and the comparison. It knows no lapin, no SQL and no libtorch.

pub mod app;
pub mod changes;
pub mod cluster;
pub mod config;
pub mod desired;
pub mod forecasts;
pub mod http;
pub mod leader;
pub mod locks;
pub mod metrics;
pub mod models;
pub mod publisher;
pub mod random;
pub mod registry;
pub mod rubbish;
pub mod service;
pub mod start;
pub mod stopping;

#[cfg(test)]
mod testing;

pub use app::{App, Parts};
pub use config::Config;
pub use service::Service;
pub use start::main;
