//! Figure 5: how long a plan takes with 10,000 nodes and 1,000,000 waiting tasks.

use std::time::{Duration, Instant};

use springtide_core::api::Predicted;
use springtide_core::node::NodeState;
use springtide_core::{Priority, Timestamp};
use springtide_forecast::Distribution;
use springtide_planner::{Arrived, Demand, LaneDemand, Node, PoolState, Run, Snapshot, Strategy, plan};

const NODES: u32 = 10_000;
const WAITING: u64 = 1_000_000;
const PLANS: u32 = 300;

pub(crate) fn run() {
    let mut policy = super::policy(Strategy::Predictive);
    policy.pools[0].max = 20_000;
    let start = Timestamp::from_micros(1_700_000_000_000_000);
    let mut snapshot =
        Snapshot { lanes: vec![lane(start, 0)], pools: vec![pool(start)], ..Snapshot::default() };
    let mut times = Vec::new();
    for at in 0..PLANS {
        let now = start + Duration::from_secs(u64::from(at));
        snapshot.at = now;
        snapshot.lanes[0] = lane(now, u64::from(at) * 50);
        let begin = Instant::now();
        let plan = plan(&snapshot, &policy, now);
        times.push(begin.elapsed());
        snapshot.memory = plan.memory;
    }
    times.sort();
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)];
    println!(
        "\nplan() with {NODES} nodes and {WAITING} waiting tasks: p50 {:.2?}, p99 {:.2?}, most {:.2?} (goal: p99 < 10 ms)",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn lane(now: Timestamp, arrived: u64) -> LaneDemand {
    let of = |tasks: u64| Predicted {
        tasks,
        mean_s: tasks as f64 * 27.0,
        variance_s2: tasks as f64 * 400.0,
        p90_s: tasks as f64 * 27.0,
    };
    let demand = |priority| Demand {
        priority,
        waiting: of(WAITING / 3),
        released: of(1000),
        running: of(u64::from(NODES) / 3),
        oldest_waiting: Some(now - Duration::from_secs(3600)),
        arrived: Some(Arrived { tasks: WAITING + arrived, seconds: 27.0 * (WAITING + arrived) as f64 }),
    };
    LaneDemand {
        lane: "gpu".parse().expect("a valid name"),
        priorities: Priority::ALL.map(demand).into(),
        deadlines: Vec::new(),
    }
}

fn pool(now: Timestamp) -> PoolState {
    let node = |at: u32| Node {
        id: format!("i-{at:08}").parse().expect("a valid name"),
        state: NodeState::Active,
        offer: "gpu/-/on_demand".parse().expect("a valid offer"),
        price_per_hour: 1.0,
        slots: 1,
        launched_at: now - Duration::from_secs(4000),
        ready_at: Some(now - Duration::from_secs(3800)),
        idle_since: None,
        runs: vec![Run {
            elapsed: Duration::from_secs(u64::from(at % 100)),
            predicted: Some(Distribution { mean: 27.0, variance: 400.0 }),
        }],
        held: 0,
        models: Vec::new(),
        doomed_at: None,
    };
    PoolState { name: "gpu".into(), nodes: (0..NODES).map(node).collect(), ..PoolState::default() }
}
