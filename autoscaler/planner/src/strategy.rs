//! How many slots a pool should have: one module for each strategy.

mod predictive;
mod queue_length;
mod target_value;

use springtide_core::Timestamp;

use crate::memory::{LaneMemory, PoolMemory, Slots};
use crate::planning::{Fleet, Work};
use crate::policy::{Pool, Strategy};

/// What a strategy sees.
pub(crate) struct View<'a> {
    pub(crate) now: Timestamp,
    pub(crate) pool: &'a Pool,
    pub(crate) work: &'a Work,
    pub(crate) fleet: &'a Fleet<'a>,
    /// Slots of other pools of the same lane.
    pub(crate) others: f64,
    /// Slots of the machine that is rented as a rule.
    pub(crate) unit: f64,
}

/// What a strategy wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Band {
    pub(crate) slots: Slots,
    /// For people, with figures.
    pub(crate) reason: String,
}

impl View<'_> {
    /// Slots of the lane that take tasks or are on their way.
    pub(crate) fn have(&self) -> f64 {
        self.fleet.slots() + self.others
    }
}

/// Asks the pool's strategy.
pub(crate) fn band(view: &View, memory: &mut PoolMemory, lane: Option<&LaneMemory>) -> Band {
    match view.pool.strategy {
        Strategy::Predictive => predictive::band(view, memory, lane),
        Strategy::QueueLength => queue_length::band(view, memory),
        Strategy::TargetValue => target_value::band(view, memory),
    }
}
