//! What a plan may not exceed: schedules, overrides, money.

use springtide_core::Timestamp;

use super::fleet::Fleet;
use crate::policy::{Policy, Pool};
use crate::snapshot::{Override, Snapshot};

/// Numbers of nodes between which a pool is kept now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'a> {
    /// Fewest: `min`, a schedule's, or an override's.
    pub(super) floor: u32,
    /// Whose override the floor is.
    pub(super) raised_by: Option<&'a str>,
    /// Most.
    pub(super) max: u32,
    /// Beyond what is wanted.
    pub(super) spares: u32,
    /// Nothing is launched or drained.
    pub(super) frozen: bool,
}

impl<'a> Bounds<'a> {
    pub(super) fn of(pool: &Pool, snapshot: &'a Snapshot, now: Timestamp) -> Self {
        let schedule = pool.schedules.iter().rev().find(|schedule| schedule.holds(now));
        let (mut floor, mut max, mut spares) = (pool.min, pool.max, pool.warm_spares);
        if let Some(schedule) = schedule {
            floor = schedule.min.unwrap_or(floor);
            max = schedule.max.unwrap_or(max).min(max);
            spares = schedule.warm_spares.unwrap_or(spares);
        }
        let (mut raised_by, mut frozen) = (None, false);
        let state = snapshot.pools.iter().find(|state| state.name == pool.name);
        for wish in state.map_or(&[][..], |state| &state.overrides) {
            match wish {
                Override::Floor { nodes, until, reason } if now < *until && floor < *nodes => {
                    (floor, raised_by) = (*nodes, Some(reason.as_str()));
                }
                Override::Freeze { until, .. } if now < *until => frozen = true,
                Override::Floor { .. } | Override::Freeze { .. } => {}
            }
        }
        Self { floor: floor.min(max), raised_by, max, spares, frozen }
    }
}

/// What may still be spent in an hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Money {
    left: Option<f64>,
}

/// Rounding errors of sums of prices are no reason against a machine.
const CENT: f64 = 1e-9;

impl Money {
    pub(super) fn new(policy: &Policy, fleets: &[Option<Fleet>]) -> Self {
        let spent: f64 = fleets.iter().flatten().map(|fleet| fleet.price).sum();
        Self { left: (policy.budget_per_hour > 0.0).then_some(policy.budget_per_hour - spent) }
    }

    /// How many machines of this price a pool may add, and of how many it pays for.
    pub(super) fn affords(&self, pool: &Pool, spent: f64, price: f64, wanted: u32) -> u32 {
        let own = (pool.budget_per_hour > 0.0).then_some(pool.budget_per_hour - spent);
        let left = [own, self.left].into_iter().flatten().fold(f64::INFINITY, f64::min);
        if price <= 0.0 || left.is_infinite() {
            return wanted;
        }
        wanted.min(((left + CENT) / price).floor().max(0.0) as u32)
    }

    /// Takes note of machines that the plan adds.
    pub(super) fn spend(&mut self, price: f64) {
        self.left = self.left.map(|left| left - price);
    }
}
