//! The task queue and the event bus: what the other parts say to each other goes through here.
//!
//! ```text
//!   releaser ──publish──► TaskQueue (one priority queue per lane) ──consume──► agents
//!   leader  ◄──consume─── EventBus: events ◄──publish── agents
//!   control planes ◄───── EventBus: heartbeats (fanout) ◄────── agents
//!   leader  ──send──────► EventBus: desired states (direct) ──► the agents of one node
//! ```
//!
//! [`TaskQueue`] and [`EventBus`] are the ports; [`connect`] opens RabbitMQ behind them, and [`Memory`] is the same
//! inside one process, for `springtide up` and for simulations under tokio's paused clock. One contract suite
//! (`tests/contract.rs`) holds for both.
//!
//! Nothing here decides anything about tasks: it knows their messages only as things to encode and decode. It must not
//! know the store, and no type of the AMQP client crosses its boundary.
//!
//! What a caller can rely on, and on what not:
//! - [`connect`] returns at once. Everything reconnects by itself, for ever; an operation that can't be done now waits
//!   for its time limit and then says what it waited for.
//! - An `Ok` of a publication means that the broker has it on disk (where it is persistent). An `Err` may still have
//!   arrived, see [`Error::may_have_arrived`].
//! - A delivery may come twice. One whose channel is gone is *stale*: the broker gives it to somebody again.
//! - What can't be decoded is kept in `springtide.dead`, counted, and never seen by the caller.

mod codec;
mod config;
mod delivery;
mod error;
mod health;
mod inbox;
pub mod memory;
pub mod names;
mod port;
mod rabbit;

pub use config::{Config, InvalidConfig};
pub use delivery::{Consumer, Delivery, Subscription};
pub use error::Error;
pub use health::{Counters, Health, Link};
pub use memory::{Faults, Memory};
pub use port::{Broker, ConsumeOptions, EventBus, Publication, QueueDepth, TaskQueue};
pub use rabbit::connect;
