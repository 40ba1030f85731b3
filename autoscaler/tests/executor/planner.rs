//! A planner that does what a test needs and nothing else: as many nodes as there are tasks, at most `max`; what is idle
//! and too much is drained, what is empty or silent is given back.

use springtide_core::Timestamp;
use springtide_core::node::NodeState;
use springtide_planner::{Action, Cause, Memory, Outlook, Plan, Policy, Snapshot};

pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Plan {
    let mut plan = Plan { memory: Memory::default(), ..Plan::default() };
    for pool in &policy.pools {
        let Some(state) = snapshot.pools.iter().find(|state| state.name == pool.name) else { continue };
        let lane = snapshot.lanes.iter().find(|lane| Some(&lane.lane) == pool.lane.as_ref()).unwrap();
        let tasks: u64 = lane
            .priorities
            .iter()
            .map(|demand| demand.waiting.tasks + demand.released.tasks + demand.running.tasks)
            .sum();
        let wanted = u32::try_from(tasks).unwrap().min(pool.max).max(pool.min);
        let counts = |node: &&springtide_planner::Node| {
            node.doomed_at.is_none() && matches!(node.state, NodeState::Active | NodeState::Launching)
        };
        let here = state.nodes.iter().filter(counts).count() as u32;
        let coming: u32 = state.launches.iter().map(|launch| launch.missing).sum();
        let (name, reason) = (pool.name.clone(), format!("{tasks} tasks"));
        if here + coming < wanted {
            let offer = &pool.offers[0];
            plan.actions.push(Action::Launch {
                pool: name.clone(),
                offer: offer.key(),
                count: wanted - here - coming,
                slots: offer.slots,
                price_per_hour: offer.price_per_hour,
                cause: Cause::Demand,
                reason: reason.clone(),
            });
        }
        let mut surplus = (here + coming).saturating_sub(wanted);
        for node in &state.nodes {
            let (pool_name, id, reason) = (name.clone(), node.id.clone(), reason.clone());
            match &node.state {
                NodeState::Active if node.is_idle() && surplus > 0 => {
                    surplus -= 1;
                    plan.actions.push(Action::Drain {
                        pool: pool_name,
                        node: id,
                        deadline: now + pool.drain_deadline,
                        cause: Cause::Surplus,
                        reason,
                    });
                }
                NodeState::Launching if now.since(node.launched_at) >= pool.boot_timeout => {
                    let cause = Cause::BootTimeout;
                    plan.actions.push(Action::Retire { pool: pool_name, node: id, cause, reason });
                }
                NodeState::Empty { .. } | NodeState::Lost => {
                    let cause = Cause::Empty;
                    plan.actions.push(Action::Retire { pool: pool_name, node: id, cause, reason });
                }
                NodeState::Draining { until, .. } if *until <= now => {
                    let cause = Cause::Deadline;
                    plan.actions.push(Action::Retire { pool: pool_name, node: id, cause, reason });
                }
                _ => {}
            }
        }
        plan.pools.push(Outlook {
            pool: name,
            active: here,
            coming,
            leaving: 0,
            wanted,
            target: wanted,
            limits: Vec::new(),
            reason,
            price_per_hour: 0.0,
        });
    }
    plan
}
