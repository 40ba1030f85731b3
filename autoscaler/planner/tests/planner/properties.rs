//! What holds of every plan, whatever the snapshot: a hundred thousand of them, and trajectories of many plans.

use std::collections::BTreeSet;

use proptest::prelude::*;
use springtide_core::Timestamp;
use springtide_core::node::NodeState;
use springtide_planner::{Action, Cause, Node, Policy, Schedule, Snapshot, Strategy as Chosen, plan};

use crate::setting::{empty, execute, node, offer, policy, predicted, run, seconds, snapshot, start};

fn a_state() -> impl Strategy<Value = NodeState> {
    let draining = (0_u64..120).prop_map(|left| NodeState::Draining {
        until: start() + seconds(left) - seconds(60),
        reason: String::new(),
    });
    prop_oneof![
        6 => Just(NodeState::Active),
        2 => Just(NodeState::Launching),
        1 => draining,
        1 => Just(empty()),
        1 => Just(NodeState::Lost),
        1 => Just(NodeState::Retiring),
    ]
}

/// State, offer, runs, age, whether the provider takes it back.
type Drawn = (NodeState, usize, u64, u64, bool);

fn a_policy() -> impl Strategy<Value = Policy> {
    let strategy =
        prop_oneof![Just(Chosen::Predictive), Just(Chosen::QueueLength), Just(Chosen::TargetValue)];
    let limits = (0_u32..4, 0_u32..12, 0_u32..3, 0_u32..2);
    let money = (prop_oneof![Just(0.0), 0.5..9.0], prop_oneof![Just(1.0), 0.0..1.0]);
    (strategy, limits, money, 1_u32..4, 1_u64..200).prop_map(
        |(strategy, (min, more, spares, scheduled), (budget, spot_share), slots, wait)| {
            let mut policy = policy(strategy);
            let pool = &mut policy.pools[0];
            (pool.min, pool.max, pool.warm_spares) = (min, min + more + 1, spares);
            pool.offers = vec![
                offer("g5/a/spot", slots, 0.4 * f64::from(slots)),
                offer("g5/b/spot", 1, 0.5),
                offer("g5/a/on_demand", 2, 1.9),
            ];
            // Under a budget that stops the dearer machines the share of spot ones is met only over several plans.
            let spot_share = if budget > 0.0 { 1.0 } else { spot_share };
            (pool.budget_per_hour, pool.spot_share) = (budget, spot_share);
            let wait = seconds(wait);
            pool.target_wait = springtide_planner::TargetWait { high: wait, normal: wait, low: wait * 2 };
            if scheduled > 0 {
                pool.schedules =
                    vec![Schedule { min: Some(min.min(1)), max: Some(min + 1), ..Schedule::default() }];
            }
            policy
        },
    )
}

fn a_snapshot() -> impl Strategy<Value = (Policy, Snapshot)> {
    let drawn = (a_state(), 0_usize..3, 0_u64..3, 0_u64..1500, prop::bool::weighted(0.1));
    (a_policy(), prop::collection::vec(drawn, 0..14), prop_oneof![0_u64..5, 0_u64..300]).prop_map(
        |(policy, drawn, waiting)| {
            let nodes = drawn.into_iter().enumerate().map(|(at, drawn)| a_node(at as u32, drawn, &policy));
            let snapshot = snapshot(nodes.collect(), waiting);
            (policy, snapshot)
        },
    )
}

fn a_node(number: u32, drawn: Drawn, policy: &Policy) -> Node {
    let (state, offer, runs, age, doomed) = drawn;
    let offer = &policy.pools[0].offers[offer];
    let busy = matches!(state, NodeState::Active | NodeState::Draining { .. } | NodeState::Lost);
    let mut node = node(number, state, offer);
    node.launched_at = start() - seconds(age);
    if busy {
        node.runs = (0..runs.min(u64::from(offer.slots))).map(|at| run(at * 10)).collect();
    }
    node.doomed_at = doomed.then(|| start() + seconds(100));
    node
}

/// Machines that count: not those that end, or that the provider takes.
fn counted(snapshot: &Snapshot) -> u32 {
    let pool = &snapshot.pools[0];
    let ends = |node: &&Node| {
        matches!(node.state, NodeState::Retiring | NodeState::Gone) || node.doomed_at.is_some()
    };
    let nodes = pool.nodes.iter().filter(|node| !ends(node)).count() as u32;
    nodes + pool.launches.iter().map(|launch| launch.missing).sum::<u32>()
}

fn launched(actions: &[Action]) -> (u32, f64) {
    actions.iter().fold((0, 0.0), |(nodes, price), action| match action {
        Action::Launch { count, price_per_hour, .. } => {
            (nodes + count, price + f64::from(*count) * price_per_hour)
        }
        _ => (nodes, price),
    })
}

fn find<'a>(snapshot: &'a Snapshot, id: &springtide_core::NodeId) -> &'a Node {
    snapshot.pools[0].nodes.iter().find(|node| &node.id == id).expect("plans name nodes of the snapshot")
}

fn check(policy: &Policy, snapshot: &Snapshot, now: Timestamp) -> Result<(), TestCaseError> {
    let pool = &policy.pools[0];
    let plan_of = |snapshot: &Snapshot| plan(snapshot, policy, now);
    let first = plan_of(snapshot);
    prop_assert_eq!(&first, &plan_of(snapshot), "the same arguments give the same plan");
    let (nodes, price) = launched(&first.actions);
    if nodes > 0 {
        let max = pool.schedules.first().and_then(|schedule| schedule.max).unwrap_or(pool.max).min(pool.max);
        let mut after = snapshot.clone();
        execute(&mut after, &first, now);
        prop_assert!(counted(&after) <= max, "{} with {nodes} new ones are more than {max}", counted(&after));
        let spent: f64 = snapshot.pools[0].nodes.iter().map(|node| node.price_per_hour).sum();
        let dear = pool.budget_per_hour > 0.0 && spent + price > pool.budget_per_hour + 1e-6;
        prop_assert!(!dear, "{spent} and {price} are more than the budget");
    }
    let mut named = BTreeSet::new();
    for action in &first.actions {
        prop_assert!(!action.reason().is_empty());
        match action {
            Action::Launch { count, .. } => prop_assert!(*count > 0),
            Action::Undrain { node, .. } => {
                prop_assert!(named.insert(node.clone()), "one action for each node");
                prop_assert!(
                    snapshot.memory != springtide_planner::Memory::default(),
                    "only what was drained by it"
                );
            }
            Action::Drain { node, deadline, cause, .. } => {
                prop_assert!(named.insert(node.clone()), "one action for each node");
                let node = find(snapshot, node);
                prop_assert!(*deadline >= now || *cause == Cause::Interruption);
                let forced = matches!(cause, Cause::Interruption | Cause::Lost);
                prop_assert!(forced || (node.is_idle() && node.state == NodeState::Active), "{action}");
            }
            Action::Retire { node, cause, .. } => {
                prop_assert!(named.insert(node.clone()), "one action for each node");
                let node = find(snapshot, node);
                let allowed = match &node.state {
                    NodeState::Empty { .. } => true,
                    NodeState::Draining { until, .. } => *until <= now,
                    NodeState::Launching => {
                        *cause == Cause::Surplus || now.since(node.launched_at) >= pool.boot_timeout
                    }
                    _ => false,
                };
                prop_assert!(allowed, "{action}, while it is {:?}", node.state);
            }
        }
    }
    let mut executed = snapshot.clone();
    execute(&mut executed, &first, now);
    let second = plan_of(&executed);
    prop_assert!(second.actions.is_empty(), "{first}\nand once executed\n{second}");
    // The same snapshot again, as a controller sees it whose reads lag behind its writes: nothing is launched twice.
    let lagging = Snapshot { memory: first.memory.clone(), at: snapshot.at - seconds(1), ..snapshot.clone() };
    prop_assert!(nodes == 0 || launched(&plan_of(&lagging).actions).0 == 0, "launched twice");
    Ok(())
}

fn check_stale(policy: &Policy, snapshot: &Snapshot) -> Result<(), TestCaseError> {
    let later = start() + policy.stale_after + seconds(1);
    let without_lane = Snapshot { lanes: Vec::new(), ..snapshot.clone() };
    let without_pool = Snapshot { pools: Vec::new(), ..snapshot.clone() };
    for plan in [
        plan(snapshot, policy, later),
        plan(&without_lane, policy, start()),
        plan(&without_pool, policy, start()),
    ] {
        for action in &plan.actions {
            let down = match action {
                Action::Drain { cause, .. } => *cause != Cause::Interruption,
                Action::Retire { .. } => true,
                _ => false,
            };
            prop_assert!(!down, "{action}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_keeps_to_the_limits_and_is_idempotent((policy, snapshot) in a_snapshot()) {
        check(&policy, &snapshot, start())?;
        check_stale(&policy, &snapshot)?;
    }
}

/// How much work there is at each step, and how far the clock goes on.
fn a_trajectory() -> impl Strategy<Value = (Policy, Vec<(u64, u64)>)> {
    (a_policy(), prop::collection::vec((prop_oneof![Just(0_u64), 0_u64..60], 1_u64..40), 30..60))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_500, failure_persistence: None, ..ProptestConfig::default() })]

    /// More than a hundred thousand plans in sequence, with machines that boot, empty and end.
    #[test]
    fn directions_change_no_faster_than_the_pause((policy, steps) in a_trajectory(), pause in 1_u64..120) {
        let mut policy = policy;
        policy.pools[0].reversal_pause = seconds(pause);
        let mut world = snapshot(Vec::new(), 0);
        let (mut now, mut number, mut up_at, mut turns, mut rising) = (start(), 0, None, 0_u64, false);
        for (waiting, passed) in steps {
            now = now + seconds(passed);
            world.at = now;
            world.lanes[0].priorities[0].waiting = predicted(waiting, 27.0);
            let plan = plan(&world, &policy, now);
            let up = plan.actions.iter().any(|action| matches!(action, Action::Launch { .. } | Action::Undrain { .. }));
            let down = plan.actions.iter().any(|action| {
                matches!(action, Action::Drain { .. } | Action::Retire { cause: Cause::Surplus, .. })
            });
            prop_assert!(!(up && down), "{plan}");
            if down {
                let paused = up_at.is_some_and(|up: Timestamp| now.since(up) < seconds(pause));
                prop_assert!(!paused, "drained within the pause: {plan}");
            }
            if (up && !rising) || (down && rising) {
                turns += 1;
                rising = up;
            }
            if up {
                up_at = Some(now);
            }
            execute(&mut world, &plan, now);
            prop_assert!(counted(&world) <= policy.pools[0].max);
            let pool = &mut world.pools[0];
            for launch in std::mem::take(&mut pool.launches) {
                for _ in 0..launch.missing {
                    number += 1;
                    let offer = policy.pools[0].offers.iter().find(|offer| offer.key() == launch.offer).unwrap();
                    let mut node = node(number, NodeState::Active, offer);
                    node.launched_at = launch.asked_at;
                    pool.nodes.push(node);
                }
            }
            pool.nodes.retain(|node| node.state != NodeState::Retiring);
            for node in &mut pool.nodes {
                if matches!(node.state, NodeState::Draining { .. }) {
                    node.state = empty();
                }
            }
        }
        // Each fall comes at least a pause after the rise before it.
        let most = now.since(start()).as_secs() / pause * 2 + 2;
        prop_assert!(turns <= most, "{turns} turns, at most {most}");
    }
}
