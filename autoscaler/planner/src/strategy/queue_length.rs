//! The number of tasks divided by a target, as KEDA's RabbitMQ scaler and the Horizontal Pod Autoscaler do it: the
//! algorithm of <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details> with the
//! default behaviour (100 % or 4 pods up in 15 s, down to the highest of the last 300 s). Kept for comparison.

use super::{Band, View};
use crate::memory::{PoolMemory, Slots};

pub(super) fn band(view: &View, memory: &mut PoolMemory) -> Band {
    let (policy, now) = (&view.pool.queue_length, view.now);
    let current = memory.count.unwrap_or_else(|| view.fleet.nodes());
    let due = memory.looked_at.is_none_or(|before| now.since(before) >= policy.sync);
    if !due {
        return fixed(view, current, "as it was decided last");
    }
    memory.looked_at = Some(now);
    if memory.polled.is_none_or(|(before, _)| now.since(before) >= policy.poll) {
        memory.polled = Some((now, view.work.open()));
    }
    let tasks = memory.polled.map_or(0, |(_, tasks)| tasks) as f64;
    let per_node = policy.tasks_per_slot * view.unit;
    let ratio = tasks / (per_node * f64::from(current));
    let near = current > 0 && (ratio - 1.0).abs() <= policy.tolerance;
    let mut wanted = if near { current } else { (tasks / per_node).ceil() as u32 };
    memory.recommended.push_back((now, wanted));
    while memory.recommended.front().is_some_and(|(at, _)| now.since(*at) > policy.down_stabilisation) {
        memory.recommended.pop_front();
    }
    if wanted < current {
        let highest = memory.recommended.iter().map(|(_, nodes)| *nodes).max().unwrap_or(wanted);
        wanted = highest.min(current);
    }
    let fastest = (f64::from(current) * policy.up_factor) as u32;
    wanted = wanted.min(fastest.max(current.saturating_add(policy.up_nodes)));
    // Beyond the pool's limit the count must not run away: it would take ages to come back.
    let wanted = wanted.min(view.pool.max);
    memory.count = Some(wanted);
    fixed(view, wanted, &format!("{tasks} tasks, {} for each slot", policy.tasks_per_slot))
}

/// Exactly so many nodes.
pub(super) fn fixed(view: &View, nodes: u32, reason: &str) -> Band {
    let slots = f64::from(nodes) * view.unit;
    Band { slots: Slots { low: slots, high: slots, most: slots }, reason: reason.to_owned() }
}
