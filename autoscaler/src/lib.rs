//! The autoscaler: rents machines for the work that waits, gives them back, and keeps the reason of each decision.
//!
//! ```text
//!            control plane ──► plane ─┐             ┌─► launches (intents) ─┐
//!                                     ├─► executor ─┤                       ├─► calls ─► provider: local, simulated
//!  provider's machines ──► observe ───┘      │      └─► giving_back ────────┘
//!                                            ▼
//!                    springtide-planner: plan(snapshot, policy, now), pure
//!                                            │
//!                                            └─► decisions ─► explain
//!  Alertmanager ──► http ─► alerts ──────────┘   (what they ask for stands in the snapshot)
//! ```
//!
//! What has to outlive a crash stands in the control plane's store: launches, states of nodes, the lease. Everything else
//! is made anew. It must not know how tasks run, nor decide what the planner decides.

pub mod alerts;
pub mod calls;
pub mod config;
pub mod decisions;
pub mod doomed;
pub mod executor;
pub mod explain;
pub mod http;
pub mod interruption;
pub mod launches;
pub mod leadership;
pub mod metrics;
mod observe;
mod plane;
pub mod provider;
mod service;
mod shared;
mod start;
mod trouble;

pub use config::Config;
pub use executor::{Executor, Parts, Planner, Round, RoundError};
pub use metrics::Metrics;
pub use plane::Plane;
pub use service::{Service, World, alert_book};
pub use shared::Shared;
pub use start::main;
pub use trouble::{Part, Trouble, Troubles};
