//! From a snapshot to a plan: what each pool has, what its strategy wants, what the limits leave of it, what to do.

mod act;
mod fleet;
mod limits;
mod offers;
mod work;

use springtide_core::Timestamp;

use crate::plan::{Limit, Outlook, Plan};
use crate::policy::{Policy, Pool};
use crate::snapshot::Snapshot;
use crate::strategy;

pub(crate) use fleet::Fleet;
pub(crate) use work::{Class, Work};

/// What is to be done now. Pure: the same arguments give the same plan.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Plan {
    let mut plan = Plan { memory: snapshot.memory.clone(), ..Plan::default() };
    plan.memory.note(snapshot, policy);
    let fresh = now.since(snapshot.at) <= policy.stale_after;
    let mut fleets: Vec<Option<Fleet>> =
        policy.pools.iter().map(|pool| Fleet::of(pool, snapshot, now)).collect();
    let mut money = limits::Money::new(policy, &fleets);
    for (at, pool) in policy.pools.iter().enumerate() {
        let Some(fleet) = fleets[at].take() else {
            plan.pools.push(unknown(pool));
            continue;
        };
        let lane = policy.pools.iter().zip(&fleets).filter(|(other, _)| other.lane == pool.lane);
        let others: f64 = lane.filter_map(|(_, fleet)| fleet.as_ref()).map(Fleet::slots).sum();
        let work = Work::of(pool, snapshot, policy, &plan.memory, now);
        let known = fresh && snapshot.lanes.iter().any(|lane| Some(&lane.lane) == pool.lane.as_ref());
        let mut memory = plan.memory.pools.remove(&pool.name).unwrap_or_default();
        let view = strategy::View {
            now,
            pool,
            work: &work,
            fleet: &fleet,
            others,
            unit: f64::from(offers::unit(pool)),
        };
        let band = strategy::band(&view, &mut memory, plan.memory.lanes.get_by(pool.lane.as_ref()));
        let bounds = limits::Bounds::of(pool, snapshot, now);
        let taken = snapshot.at;
        let mut step = act::Step { pool, fleet, band, bounds, others, known, now, taken, memory };
        let outlook = step.run(&mut plan.actions, &plan.memory, &mut money);
        plan.pools.push(outlook);
        plan.memory.pools.insert(pool.name.clone(), step.memory);
        fleets[at] = Some(step.fleet);
    }
    plan
}

/// A pool that the snapshot does not have: nothing is done to it.
fn unknown(pool: &Pool) -> Outlook {
    Outlook {
        pool: pool.name.clone(),
        active: 0,
        coming: 0,
        leaving: 0,
        wanted: 0,
        target: 0,
        limits: vec![Limit::Stale],
        reason: "the snapshot does not have this pool".to_owned(),
        price_per_hour: 0.0,
    }
}

/// Lookup by a key that may be missing.
trait GetBy<K, V> {
    fn get_by(&self, key: Option<&K>) -> Option<&V>;
}

impl<K: Ord, V> GetBy<K, V> for std::collections::BTreeMap<K, V> {
    fn get_by(&self, key: Option<&K>) -> Option<&V> {
        key.and_then(|key| self.get(key))
    }
}
