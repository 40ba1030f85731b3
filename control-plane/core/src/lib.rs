//! The words of Springtide as types: jobs, tasks, nodes, lanes, models; what they may become; and what the parts of
//! the system say to one another about them.
//!
//! Everything here is pure: no I/O, no clock, no randomness (both are parameters), no async. It must not know that
//! RabbitMQ, SQL, HTTP servers or libtorch exist.
//!
//! ```text
//!   api  ── what users send and see (HTTP)          wire ── what processes say to each other (AMQP)
//!     │                                               │
//!     └────────────►  job · task · node  ◄────────────┘      state machines: consume `self`, take `now`
//!                     lane · model · id · time               what they are made of
//! ```

pub mod api;
pub mod duration;
pub mod failure;
pub mod id;
pub mod job;
pub mod lane;
pub mod model;
pub mod node;
pub mod priority;
pub mod task;
pub mod time;
pub mod wire;

pub use failure::{FailureClass, TaskError};
pub use id::{Incarnation, JobId, LaneName, ModelId, NodeId, RunId, TaskId};
pub use priority::Priority;
pub use time::Timestamp;
