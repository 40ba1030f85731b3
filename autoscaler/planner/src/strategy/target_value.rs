//! A measure held at its target, as the Nomad Autoscaler's `target-value` strategy does it
//! (<https://developer.hashicorp.com/nomad/tools/autoscaling/plugins/strategy/target-value>): count × measure / target,
//! looked at in intervals, with a cooldown after each change. The measure is predicted seconds of work for each slot. Kept
//! for comparison.

use super::queue_length::fixed;
use super::{Band, View};
use crate::memory::PoolMemory;

pub(super) fn band(view: &View, memory: &mut PoolMemory) -> Band {
    let (policy, now) = (&view.pool.target_value, view.now);
    let current = memory.count.unwrap_or_else(|| view.fleet.nodes());
    let resting = memory.changed_at.is_some_and(|before| now.since(before) < policy.cooldown);
    let due = memory.looked_at.is_none_or(|before| now.since(before) >= policy.evaluation_interval);
    if resting || !due {
        return fixed(view, current, if resting { "it cools down" } else { "as it was decided last" });
    }
    memory.looked_at = Some(now);
    let work = view.work;
    let seconds = work.classes[0].seconds.mean + work.remaining.mean;
    // Count × (seconds / (count × slots)) / target: the count cancels out, so that it works from zero, too.
    let exact = seconds / (view.unit * policy.target.as_secs_f64());
    let ratio = exact / f64::from(current);
    let near = current > 0 && (ratio - 1.0).abs() <= policy.threshold;
    let wanted = if near { current } else { (exact.ceil() as u32).min(view.pool.max) };
    if wanted != current {
        memory.changed_at = Some(now);
    }
    memory.count = Some(wanted);
    fixed(view, wanted, &format!("{seconds:.0} s of work, {:?} for each slot", policy.target))
}
