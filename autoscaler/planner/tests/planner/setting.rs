//! A pool, its machines and its work, to plan for; and what execution makes of a plan.

use std::time::Duration;

use springtide_core::api::Predicted;
use springtide_core::node::NodeState;
use springtide_core::{Priority, Timestamp};
use springtide_forecast::Distribution;
use springtide_planner::{
    Action, Demand, LaneDemand, Launch, Node, Offer, Plan, Policy, Pool, PoolState, Run, Snapshot, Strategy,
};

pub(crate) fn start() -> Timestamp {
    "2026-07-31T12:00:00Z".parse().unwrap()
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn predicted(tasks: u64, mean: f64) -> Predicted {
    let (mean_s, variance_s2) = (tasks as f64 * mean, tasks as f64 * mean * mean / 2.0);
    Predicted {
        tasks,
        mean_s,
        variance_s2,
        p90_s: Distribution { mean: mean_s, variance: variance_s2 }.p90(),
    }
}

pub(crate) fn offer(text: &str, slots: u32, price_per_hour: f64) -> Offer {
    let key: springtide_planner::OfferKey = text.parse().unwrap();
    let springtide_planner::OfferKey { instance_type, zone, market } = key;
    Offer { instance_type, zone, market, price_per_hour, slots, speed: 1.0 }
}

pub(crate) fn policy(strategy: Strategy) -> Policy {
    let pool = Pool {
        name: "gpu".into(),
        lane: "gpu-24g".parse().ok(),
        max: 20,
        offers: vec![offer("g5/a/spot", 1, 0.4), offer("g5/a/on_demand", 1, 1.0)],
        strategy,
        ..Pool::default()
    };
    Policy { pools: vec![pool], ..Policy::default() }
}

pub(crate) fn node(number: u32, state: NodeState, offer: &Offer) -> Node {
    let booted = !matches!(state, NodeState::Launching);
    Node {
        id: format!("n{number}").parse().unwrap(),
        state,
        offer: offer.key(),
        price_per_hour: offer.price_per_hour,
        slots: offer.slots,
        launched_at: start() - seconds(if booted { 1000 } else { 20 }),
        ready_at: booted.then(|| start() - seconds(880)),
        idle_since: None,
        runs: Vec::new(),
        held: 0,
        models: Vec::new(),
        doomed_at: None,
    }
}

pub(crate) fn run(elapsed: u64) -> Run {
    Run { elapsed: seconds(elapsed), predicted: Some(Distribution { mean: 27.0, variance: 400.0 }) }
}

pub(crate) fn work(waiting: u64, running: u64) -> LaneDemand {
    let demand = Demand {
        priority: Priority::Normal,
        waiting: predicted(waiting, 27.0),
        released: Predicted::default(),
        running: predicted(running, 27.0),
        oldest_waiting: (waiting > 0).then(|| start() - seconds(30)),
        arrived: None,
    };
    LaneDemand { lane: "gpu-24g".parse().unwrap(), priorities: vec![demand], deadlines: Vec::new() }
}

pub(crate) fn snapshot(nodes: Vec<Node>, waiting: u64) -> Snapshot {
    let running = nodes.iter().map(|node| node.runs.len() as u64).sum();
    Snapshot {
        at: start(),
        lanes: vec![work(waiting, running)],
        pools: vec![PoolState { name: "gpu".into(), nodes, ..PoolState::default() }],
        ..Snapshot::default()
    }
}

/// What execution makes of a plan, at once.
pub(crate) fn execute(snapshot: &mut Snapshot, plan: &Plan, now: Timestamp) {
    for (number, action) in plan.actions.iter().enumerate() {
        let pool = snapshot.pools.iter_mut().find(|pool| pool.name == action.pool()).unwrap();
        let mut set = |id: &springtide_core::NodeId, state: NodeState| {
            pool.nodes.iter_mut().find(|node| &node.id == id).expect("a node of the snapshot").state = state;
        };
        match action {
            Action::Launch { offer, count, slots, price_per_hour, .. } => pool.launches.push(Launch {
                id: format!("l{}-{number}", now.as_micros()),
                offer: offer.clone(),
                price_per_hour: *price_per_hour,
                slots: *slots,
                missing: *count,
                asked_at: now,
            }),
            Action::Undrain { node, .. } => set(node, NodeState::Active),
            Action::Drain { node, deadline, reason, .. } => {
                set(node, NodeState::Draining { until: *deadline, reason: reason.clone() });
            }
            Action::Retire { node, .. } => set(node, NodeState::Retiring),
        }
    }
    snapshot.memory = plan.memory.clone();
    snapshot.observations.clear();
}

/// Drained.
pub(crate) fn empty() -> NodeState {
    NodeState::Empty { reason: String::new() }
}
