//! What has to be known of the past, as a value: a plan takes it from the snapshot and gives back the next one.
//!
//! Nothing in it is needed for safety. When it is lost, estimates start again and pauses are forgotten once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use springtide_core::{LaneName, Timestamp};

use crate::offer::OfferKey;

/// What the planner remembers between two plans. Its size is bounded by the policy's.
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
}

/// Of a lane: what arrives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneMemory {
    /// Where the counter of arrivals stood.
    pub(crate) arrived: u64,
}

/// Of a pool: boot times, and when it last changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PoolMemory {
    /// When nodes were last asked for.
    pub(crate) up_at: Option<Timestamp>,
    /// When nodes were last drained.
    pub(crate) down_at: Option<Timestamp>,
}

/// Of an offer that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Avoidance {
    /// How often in a row.
    pub(crate) failures: u32,
    /// Until when it is avoided.
    pub(crate) until: Timestamp,
}
