//! What a plan rests on: work, nodes and launches at one moment, and the memory of the plans before.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use springtide_core::api::Predicted;
use springtide_core::node::NodeState;
use springtide_core::time::seconds;
use springtide_core::{LaneName, ModelId, NodeId, Priority, Timestamp};
use springtide_forecast::Distribution;

use crate::memory::Memory;
use crate::offer::OfferKey;

/// Everything that [`crate::plan`] looks at. It can be written down and planned from again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the control plane took it. One that is older than the policy's `stale_after` never scales down.
    pub at: Timestamp,
    /// The work, by lane.
    pub lanes: Vec<LaneDemand>,
    /// The machines, by pool. A pool that is missing here counts as unknown, not as empty: it is left alone.
    pub pools: Vec<PoolState>,
    /// What happened to launches lately. Those that the memory has seen are skipped, so repeating one is harmless.
    #[serde(default)]
    pub observations: Vec<Observation>,
    /// What the last plan gave back; the default at first, or when it was lost (then only estimates are poorer).
    #[serde(default)]
    pub memory: Memory,
}

/// The work of a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneDemand {
    /// The lane. Waiting work stands under the smallest lane that fits.
    pub lane: LaneName,
    /// By priority; at most one for each.
    pub priorities: Vec<Demand>,
    /// Work with a deadline (counted above as well), at most a few dozen buckets; may be empty.
    #[serde(default)]
    pub deadlines: Vec<Due>,
}

/// The work of one priority in a lane, all models together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// The priority.
    pub priority: Priority,
    /// In the store only.
    pub waiting: Predicted,
    /// In the lane's queue, or held by a node and not started.
    pub released: Predicted,
    /// On a node: the whole runtimes, not what remains of them.
    pub running: Predicted,
    /// When the oldest waiting or released task was accepted.
    pub oldest_waiting: Option<Timestamp>,
    /// All that ever arrived, as a counter. `None`: not known, and arrivals are read off the change of the backlog.
    #[serde(default)]
    pub arrived: Option<Arrived>,
}

/// Counters of all tasks that ever arrived. One that went down was reset, and counts from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrived {
    /// How many.
    pub tasks: u64,
    /// Their predicted seconds, as they were predicted when they arrived.
    pub seconds: f64,
}

/// Work that should be done by a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Due {
    /// The deadline.
    pub by: Timestamp,
    /// What is not yet running of it.
    pub load: Predicted,
}

/// The machines of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    /// The pool's name, as in the policy.
    pub name: String,
    /// Its nodes that are not gone, each once.
    pub nodes: Vec<Node>,
    /// Its open launches.
    pub launches: Vec<Launch>,
    /// What alerts and people asked for, as long as it holds.
    #[serde(default)]
    pub overrides: Vec<Override>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// The control plane's word. A machine that the provider shows and the control plane has not heard is `Launching`.
    #[serde(flatten)]
    pub state: NodeState,
    /// What was rented.
    pub offer: OfferKey,
    /// Its price.
    pub price_per_hour: f64,
    /// How many tasks it takes at once.
    pub slots: u32,
    /// When it was asked for; billing counts from here.
    pub launched_at: Timestamp,
    /// When its agent was first heard.
    pub ready_at: Option<Timestamp>,
    /// Since when it has had nothing to do; `None`: it is busy, or that is not known.
    pub idle_since: Option<Timestamp>,
    /// What it runs.
    pub runs: Vec<Run>,
    /// Deliveries that it holds and has not started.
    pub held: u32,
    /// Models in its cache: of two idle nodes the one with fewer is given back first.
    #[serde(default)]
    pub models: Vec<ModelId>,
    /// When the provider takes it back, once that was announced: it is no capacity from now on.
    #[serde(default)]
    pub doomed_at: Option<Timestamp>,
}

/// A task on a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How long it has run.
    #[serde(with = "seconds", rename = "elapsed_s")]
    pub elapsed: Duration,
    /// How long it was predicted to take in all; `None`: the lane's mean is taken.
    #[serde(default)]
    pub predicted: Option<Distribution>,
}

/// A launch that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub offer: OfferKey,
    /// The price of one node.
    pub price_per_hour: f64,
    /// The slots of one node.
    pub slots: u32,
    /// Nodes that are still to come of it, beyond those that stand among the pool's nodes already.
    pub missing: u32,
    /// When it was written down.
    pub asked_at: Timestamp,
}

/// What became of a launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Observation {
    /// The provider had no machine of this kind (insufficient capacity).
    NoCapacity {
        /// What was asked for.
        offer: OfferKey,
        /// When.
        at: Timestamp,
    },
    /// The provider gave machines of this kind.
    Launched {
        /// What was asked for.
        offer: OfferKey,
        /// When.
        at: Timestamp,
    },
    /// The provider took a machine of this kind back (spot interruption).
    Interrupted {
        /// What was rented.
        offer: OfferKey,
        /// When.
        at: Timestamp,
    },
    /// A machine of this kind has ended, or was given back, before its agent was heard.
    NeverHeard {
        /// What was rented.
        offer: OfferKey,
        /// Since when.
        launched_at: Timestamp,
        /// When that was seen.
        at: Timestamp,
    },
}

/// A wish that stands above the strategy, but within `min`, `max` and budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Override {
    /// At least so many nodes.
    Floor {
        /// How many.
        nodes: u32,
        /// Until when.
        until: Timestamp,
        /// Who asked for it, for people.
        reason: String,
    },
    /// Neither launch nor drain.
    Freeze {
        /// Until when.
        until: Timestamp,
        /// Who asked for it, for people.
        reason: String,
    },
}

impl Node {
    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.held == 0
    }
}
