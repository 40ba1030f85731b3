//! Which machines to rent and which to give back: `plan(snapshot, policy, now) -> Plan`, with a reason for every action.
//!
//! ```text
//!   Snapshot  ─ what the control plane and the cloud say: work, nodes, launches; and the Memory of the last plan
//!   Policy    ─ what the operator wants: pools, offers, limits, target waits, a strategy
//!       │
//!       ▼
//!   demand ─► strategy: predictive │ queue_length │ target_value ─► how many slots a pool should have
//!       │
//!       ▼
//!   limits (min, max, schedule, spares, overrides, budget) ─► actions (undrain before launch; drain, then retire)
//!       │
//!       ▼
//!   Plan      ─ actions, the outlook of each pool, and the Memory that the next snapshot brings back
//! ```
//!
//! Everything is pure, synchronous and deterministic: no clock, no randomness, no I/O, so that a decision can be made again
//! from its record, and the simulator plans with the very code that runs in production. It must not know that clouds, HTTP
//! or a store exist. Executing a plan and planning again at the same moment gives no further action.

mod memory;
mod offer;
mod plan;
mod planning;
mod policy;
mod snapshot;
mod strategy;

pub use memory::Memory;
pub use offer::{InvalidOffer, Market, OfferKey};
pub use plan::{Action, Cause, Limit, Outlook, Plan};
pub use planning::plan;
pub use policy::{
    InvalidPolicy, Offer, Policy, Pool, Predictive, QueueLength, Schedule, Strategy, TargetValue, TargetWait,
    Weekday,
};
pub use snapshot::{
    Arrived, Demand, Due, LaneDemand, Launch, Node, Observation, Override, PoolState, Run, Snapshot,
};
