//! The node agent: takes tasks from one lane, runs them in worker processes, and reports what became of them.
//!
//! ```text
//!  lane's queue ──► intake ──► attempt (one for each delivery)                  heartbeat ──► control planes
//!                    ▲          │ prepare: model cache, input                       ▲
//!      gate ─────────┘          │                                                   │
//!  (drain, solo, pause)         ├──► device ──► worker process          ledger: what is held, what runs
//!        ▲                      │    (stage, batch, run, cancel)
//!        │                      │ outputs, checkpoints ──► object store
//!  desired state                └──► reporter ──► springtide.events; then the ack
//! ```
//!
//! The order that nothing may break: a redelivered task never runs; `Started` is confirmed before the worker hears of
//! the run; outputs are stored before `Succeeded` is said; the terminal event is confirmed before the ack.
//!
//! [`Agent::start`] is given everything it touches ([`AgentParts`]): broker, object store, clock, randomness, the
//! launcher of workers, the probe of the machine. So the same code runs as a service, inside `springtide up`, and many
//! times over on one thread under tokio's paused clock. It knows nothing of the store, of HTTP, or of libtorch.

mod agent;
mod attempt;
mod backoff;
mod config;
mod desired;
mod device;
mod gate;
mod gpu;
mod heartbeat;
mod host;
mod identity;
mod intake;
mod lane;
mod leases;
mod ledger;
mod models;
mod node;
mod outputs;
mod pause;
mod prepare;
mod probe;
mod reporter;
mod service;
mod signal;
mod stopper;
mod strategy;
mod threshold;
pub mod worker;

pub use agent::{Agent, AgentParts};
pub use config::{Config, Settings};
pub use identity::{Identity, IdentityError, node_id};
pub use lane::NoLane;
pub use probe::{Figures, FixedProbe, Gpu, Probe, SystemProbe};
pub use service::{ServeArguments, main, serve_main};
pub use springtide_worker_confinement::Confinement;
pub use strategy::Strategy;
pub use worker::echo_worker_main;
