//! What has to be known of the past, as a value: a plan takes it from the snapshot and gives back the next one.
//!
//! Nothing in it is needed for safety. When it is lost, estimates start again and pauses are forgotten once.

mod arrivals;
mod avoidance;
mod boots;
mod expected;
mod time_of_day;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use springtide_core::{LaneName, NodeId, Timestamp};

use crate::offer::OfferKey;
use crate::policy::Policy;
use crate::snapshot::Snapshot;

pub(crate) use arrivals::LaneMemory;
pub(crate) use avoidance::Avoidance;
pub(crate) use boots::Boots;

/// What the planner remembers between two plans. Its size is bounded by the policy's and the number of nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When the snapshot before was taken: what is older was seen.
    pub(crate) seen: Option<Timestamp>,
    /// By lane.
    pub(crate) lanes: BTreeMap<LaneName, LaneMemory>,
    /// By pool.
    pub(crate) pools: BTreeMap<String, PoolMemory>,
    /// Offers that could not be had.
    pub(crate) avoided: BTreeMap<OfferKey, Avoidance>,
    /// When a machine of each offer was heard first, the last one to be.
    pub(crate) heard: BTreeMap<OfferKey, Timestamp>,
}

/// Of a pool: boot times, and when it last changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PoolMemory {
    /// When nodes were last asked for, or undrained.
    pub(crate) up_at: Option<Timestamp>,
    /// Boot times.
    pub(crate) boots: Boots,
    /// Nodes that the planner drained as surplus: these it may undrain.
    pub(crate) drained: BTreeSet<NodeId>,
    /// Of `queue_length` and `target_value`: the number of nodes that stands.
    pub(crate) count: Option<u32>,
    /// Of `queue_length` and `target_value`: when that was looked at last.
    pub(crate) looked_at: Option<Timestamp>,
    /// Of `target_value`: when it was changed last.
    pub(crate) changed_at: Option<Timestamp>,
    /// Of `predictive`: the slots that were decided on last, and when.
    pub(crate) decided: Option<(Timestamp, Slots)>,
    /// Of `queue_length`: the queue's length and when it was read.
    pub(crate) polled: Option<(Timestamp, u64)>,
    /// Of `queue_length`: what was recommended within the stabilisation window.
    pub(crate) recommended: VecDeque<(Timestamp, u32)>,
}

/// Slots of a lane: fewer than `low` are added to; of more than `high` idle ones are given back, of more than `most` those
/// on their way as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slots {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) most: f64,
}

impl Memory {
    /// Takes in a snapshot. One that was taken in before changes nothing.
    pub(crate) fn note(&mut self, snapshot: &Snapshot, policy: &Policy) {
        if self.seen.is_some_and(|seen| snapshot.at <= seen) {
            return;
        }
        for demand in &snapshot.lanes {
            self.lanes.entry(demand.lane.clone()).or_default().note(demand, self.seen, snapshot.at);
        }
        for state in &snapshot.pools {
            self.note_heard(&state.nodes, self.seen);
            let pool = self.pools.entry(state.name.clone()).or_default();
            pool.boots.note(&state.nodes, self.seen);
            if !pool.drained.is_empty() {
                let present: BTreeSet<&NodeId> = state.nodes.iter().map(|node| &node.id).collect();
                pool.drained.retain(|id| present.contains(id));
            }
        }
        self.pools.retain(|name, _| policy.pools.iter().any(|pool| &pool.name == name));
        self.note_offers(&snapshot.observations, policy);
        self.seen = Some(snapshot.at);
    }
}
