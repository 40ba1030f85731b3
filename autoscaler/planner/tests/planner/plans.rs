//! What the planner does in situations that matter, as `explain` shows it.

use std::time::Duration;

use springtide_core::node::NodeState;
use springtide_planner::{Arrived, Due, Observation, Override, Schedule, Strategy, plan};

use crate::setting::{empty, execute, node, offer, policy, predicted, run, seconds, snapshot, start, work};

fn drained() -> NodeState {
    NodeState::Draining { until: start() + seconds(60), reason: "surplus".into() }
}

#[test]
fn from_zero_the_cheapest_machines_are_launched() {
    let plan = plan(&snapshot(Vec::new(), 40), &policy(Strategy::Predictive), start());
    insta::assert_snapshot!(plan);
}

#[test]
fn nothing_to_do_means_nothing_is_kept() {
    let policy = policy(Strategy::Predictive);
    let spot = &policy.pools[0].offers[0];
    let on_demand = &policy.pools[0].offers[1];
    let mut warm = node(3, NodeState::Active, spot);
    warm.models = vec!["shapes@1".parse().unwrap()];
    let nodes = vec![node(1, NodeState::Active, spot), node(2, NodeState::Active, on_demand), warm];
    let mut snapshot = snapshot(nodes, 0);
    let first = plan(&snapshot, &policy, start());
    insta::assert_snapshot!(first);
    execute(&mut snapshot, &first, start());
    for node in &mut snapshot.pools[0].nodes {
        node.state = empty();
    }
    snapshot.at = start() + seconds(1);
    insta::assert_snapshot!(plan(&snapshot, &policy, snapshot.at));
    // Work that comes before they are gone brings them back.
    snapshot.lanes[0].priorities[0].waiting = predicted(30, 27.0);
    insta::assert_snapshot!(plan(&snapshot, &policy, snapshot.at));
}

#[test]
fn a_node_that_somebody_else_drained_stays_drained() {
    let policy = policy(Strategy::Predictive);
    let snapshot = snapshot(vec![node(1, drained(), &policy.pools[0].offers[0])], 1);
    insta::assert_snapshot!(plan(&snapshot, &policy, start()));
}

#[test]
fn what_is_on_its_way_counts() {
    let policy = policy(Strategy::Predictive);
    let mut snapshot = snapshot(Vec::new(), 12);
    let first = plan(&snapshot, &policy, start());
    execute(&mut snapshot, &first, start());
    snapshot.at = start() + seconds(5);
    insta::assert_snapshot!(plan(&snapshot, &policy, snapshot.at));
}

#[test]
fn what_could_not_be_had_is_avoided_for_a_while_that_grows() {
    let policy = policy(Strategy::Predictive);
    let spot = policy.pools[0].offers[0].key();
    let mut snapshot = snapshot(Vec::new(), 4);
    snapshot.observations = vec![Observation::NoCapacity { offer: spot.clone(), at: start() }];
    let first = plan(&snapshot, &policy, start());
    insta::assert_snapshot!(first);
    // The first time for a minute, the second time for two.
    snapshot.memory = first.memory;
    let offers = |snapshot: &springtide_planner::Snapshot| {
        plan(snapshot, &policy, snapshot.at).actions.iter().map(ToString::to_string).collect::<String>()
    };
    snapshot.at = start() + seconds(61);
    assert!(offers(&snapshot).contains("g5/a/spot"));
    snapshot.observations = vec![Observation::NoCapacity { offer: spot, at: start() + seconds(61) }];
    snapshot.at = start() + seconds(62);
    snapshot.memory = plan(&snapshot, &policy, snapshot.at).memory;
    snapshot.pools[0].launches.clear();
    snapshot.at = start() + seconds(61 + 119);
    assert!(!offers(&snapshot).contains("g5/a/spot"));
    snapshot.at = start() + seconds(61 + 121);
    assert!(offers(&snapshot).contains("g5/a/spot"));
}

#[test]
fn what_was_taken_back_will_do_where_there_is_nothing_else() {
    let mut policy = policy(Strategy::Predictive);
    policy.pools[0].offers.truncate(1);
    let spot = policy.pools[0].offers[0].key();
    let mut snapshot = snapshot(Vec::new(), 4);
    snapshot.observations = vec![Observation::Interrupted { offer: spot.clone(), at: start() }];
    assert!(plan(&snapshot, &policy, start()).to_string().contains("g5/a/spot"));
    snapshot.observations = vec![Observation::NoCapacity { offer: spot, at: start() }];
    assert!(!plan(&snapshot, &policy, start()).to_string().contains("g5/a/spot"));
}

#[test]
fn machines_that_never_come_up_are_rented_ever_more_seldom() {
    let mut policy = policy(Strategy::Predictive);
    policy.pools[0].offers.truncate(1);
    let offer = policy.pools[0].offers[0].key();
    let mut snapshot = snapshot(Vec::new(), 4);
    let mut launches = Vec::new();
    for second in 0..1200 {
        snapshot.at = start() + seconds(second);
        let next = plan(&snapshot, &policy, snapshot.at);
        snapshot.memory = next.memory;
        snapshot.observations.clear();
        if next.actions.iter().any(|action| action.name() == "launch") {
            launches.push(second);
            // They come, and are gone at once.
            let launched_at = snapshot.at;
            let at = launched_at + std::time::Duration::from_millis(500);
            let came = Observation::Launched { offer: offer.clone(), at: launched_at };
            let gone = Observation::NeverHeard { offer: offer.clone(), launched_at, at };
            snapshot.observations = vec![came, gone];
        }
    }
    let pauses: Vec<_> = launches.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(launches.len() >= 4 && pauses[0] >= 60, "{launches:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] >= 2 * pair[0] - 3), "{launches:?}");
}

#[test]
fn limits_hold_and_are_named() {
    let mut policy = policy(Strategy::Predictive);
    policy.pools[0].max = 3;
    insta::assert_snapshot!(plan(&snapshot(Vec::new(), 400), &policy, start()));
    policy.pools[0].max = 20;
    policy.pools[0].spot_share = 0.5;
    policy.budget_per_hour = 3.0;
    insta::assert_snapshot!(plan(&snapshot(Vec::new(), 400), &policy, start()));
}

#[test]
fn floors_spares_and_schedules() {
    let mut policy = policy(Strategy::Predictive);
    policy.pools[0].warm_spares = 1;
    let noon = Schedule { min: Some(2), ..toml::from_str("from = \"11:00\"\nuntil = \"13:00\"").unwrap() };
    policy.pools[0].schedules = vec![noon];
    insta::assert_snapshot!(plan(&snapshot(Vec::new(), 0), &policy, start()));
    let mut snapshot = snapshot(Vec::new(), 0);
    let until = start() + seconds(60);
    snapshot.pools[0].overrides = vec![Override::Floor { nodes: 5, until, reason: "BacklogTooOld".into() }];
    insta::assert_snapshot!(plan(&snapshot, &policy, start()));
    snapshot.pools[0].overrides.push(Override::Freeze { until, reason: "maintenance".into() });
    insta::assert_snapshot!(plan(&snapshot, &policy, start()));
}

#[test]
fn what_the_provider_takes_is_drained_and_replaced() {
    let policy = policy(Strategy::Predictive);
    let spot = &policy.pools[0].offers[0];
    let mut nodes: Vec<_> = (1..=3).map(|number| node(number, NodeState::Active, spot)).collect();
    for node in &mut nodes {
        node.runs = vec![run(5)];
    }
    nodes[0].doomed_at = Some(start() + seconds(120));
    nodes.push(node(4, NodeState::Lost, spot));
    let mut late = node(5, NodeState::Launching, spot);
    late.launched_at = start() - seconds(901);
    nodes.push(late);
    let mut overdue = node(6, NodeState::Draining { until: start(), reason: String::new() }, spot);
    overdue.runs = vec![run(500)];
    nodes.push(overdue);
    insta::assert_snapshot!(plan(&snapshot(nodes, 60), &policy, start()));
}

#[test]
fn what_is_not_done_when_its_machine_goes_is_prepared_for_at_once() {
    let policy = policy(Strategy::Predictive);
    let launches = |left| {
        let mut node = node(1, NodeState::Active, &policy.pools[0].offers[0]);
        node.runs = vec![run(5)];
        node.doomed_at = Some(start() + seconds(left));
        let next = plan(&snapshot(vec![node], 0), &policy, start());
        next.actions.iter().filter(|action| action.name() == "launch").count()
    };
    assert_eq!(launches(4), 1);
    assert_eq!(launches(120), 0);
}

#[test]
fn a_burst_is_forgotten_once_its_silence_tells_where_machines_boot_in_seconds() {
    let mut policy = policy(Strategy::Predictive);
    policy.pools[0].boot_time = seconds(1);
    policy.pools[0].reversal_pause = seconds(2);
    let offer = offer("agent/-/on_demand", 5, 0.0);
    policy.pools[0].offers = vec![offer.clone()];
    let mut snapshot = snapshot((1..=4).map(|number| node(number, NodeState::Active, &offer)).collect(), 0);
    for node in &mut snapshot.pools[0].nodes {
        node.idle_since = Some(start());
    }
    // Nothing, then 200 tasks at once, then nothing.
    let mut kept = Vec::new();
    for second in 0..120 {
        snapshot.at = start() + seconds(second);
        snapshot.lanes = vec![work(if second == 5 { 200 } else { 0 }, 0)];
        let (next, now) = (plan(&snapshot, &policy, snapshot.at), snapshot.at);
        execute(&mut snapshot, &next, now);
        kept.push(snapshot.pools[0].nodes.iter().filter(|node| node.state == NodeState::Active).count());
    }
    assert_eq!(kept[5], 4, "{kept:?}");
    assert_eq!(kept[90], 0, "averages alone keep some for four minutes: {kept:?}");
}

#[test]
fn an_old_snapshot_gives_nothing_back() {
    let policy = policy(Strategy::Predictive);
    let spot = &policy.pools[0].offers[0];
    let nodes = vec![node(1, NodeState::Active, spot), node(2, empty(), spot)];
    let mut snapshot = snapshot(nodes, 0);
    insta::assert_snapshot!(plan(&snapshot, &policy, start() + seconds(31)));
    snapshot.pools.clear();
    insta::assert_snapshot!(plan(&snapshot, &policy, start()));
}

#[test]
fn what_is_not_needed_any_more_is_given_back_while_it_boots() {
    let policy = policy(Strategy::Predictive);
    let spot = &policy.pools[0].offers[0];
    let booting = |number: u32| {
        let mut node = node(number, NodeState::Launching, spot);
        node.launched_at = start() - seconds(20 + u64::from(number));
        node
    };
    let mut snapshot = snapshot((1..=6).map(booting).collect(), 0);
    let plan_at =
        |snapshot: &springtide_planner::Snapshot, late| plan(snapshot, &policy, start() + seconds(late));
    insta::assert_snapshot!(plan_at(&snapshot, 0));
    assert!(plan_at(&snapshot, 31).actions.is_empty(), "the snapshot is old");
    snapshot.lanes[0].priorities[0].waiting = predicted(60, 27.0);
    assert!(plan_at(&snapshot, 0).actions.iter().all(|action| !action.to_string().contains("retire")));
}

#[test]
fn what_was_decided_stands_for_a_part_of_the_boot_time() {
    let policy = policy(Strategy::Predictive);
    let mut snapshot = snapshot(Vec::new(), 3);
    let first = plan(&snapshot, &policy, start());
    assert_eq!(first.actions.len(), 1);
    execute(&mut snapshot, &first, start());
    // Ten times the work, and a machine that got lost: only that one is replaced until the time is up.
    snapshot.lanes[0].priorities[0].waiting = predicted(30, 27.0);
    let launched_at = |snapshot: &mut springtide_planner::Snapshot, late| {
        snapshot.at = start() + seconds(late);
        let plan = plan(snapshot, &policy, snapshot.at);
        plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(launched_at(&mut snapshot, 1), Vec::<String>::new());
    let launches = snapshot.pools[0].launches.clone();
    snapshot.pools[0].launches[0].missing -= 1;
    assert_eq!(launched_at(&mut snapshot, 2).len(), 1);
    snapshot.pools[0].launches = launches;
    assert_eq!(launched_at(&mut snapshot, 6).len(), 1);
}

#[test]
fn a_deadline_brings_machines() {
    let policy = policy(Strategy::Predictive);
    let spot = &policy.pools[0].offers[0];
    let mut busy = node(1, NodeState::Active, spot);
    busy.runs = vec![run(5)];
    let mut snapshot = snapshot(vec![busy], 2);
    snapshot.lanes[0].deadlines = vec![Due { by: start() + seconds(300), load: predicted(40, 27.0) }];
    insta::assert_snapshot!(plan(&snapshot, &policy, start()));
}

#[test]
fn deadlines_add_up() {
    let policy = policy(Strategy::Predictive);
    let due = |after, tasks| Due { by: start() + seconds(after), load: predicted(tasks, 27.0) };
    let launched = |deadlines: Vec<Due>| {
        let mut snapshot = snapshot(vec![node(1, NodeState::Active, &policy.pools[0].offers[0])], 0);
        snapshot.lanes[0].deadlines = deadlines;
        plan(&snapshot, &policy, start()).pools[0].target
    };
    let alone = launched(vec![due(1000, 40)]);
    assert!(alone > 1 && launched(vec![due(900, 40)]) >= alone);
    // In whatever order they are told: what is due before takes the time of what is due later.
    let both = launched(vec![due(1000, 40), due(900, 40)]);
    assert!(both > alone, "{both} after {alone}");
    assert_eq!(both, launched(vec![due(900, 40), due(1000, 40)]));
}

#[test]
fn queue_length_goes_up_by_double_or_four_and_down_after_five_minutes() {
    let mut policy = policy(Strategy::QueueLength);
    policy.pools[0].offers = vec![offer("g5/a/on_demand", 1, 1.0)];
    policy.pools[0].reversal_pause = seconds(0);
    let mut snapshot = snapshot(Vec::new(), 30);
    let mut counts = Vec::new();
    for at in 0..60 {
        let now = start() + seconds(at * 15);
        snapshot.at = now;
        let waiting = if at < 8 { 30 } else { 0 };
        snapshot.lanes[0].priorities[0].waiting = predicted(waiting, 27.0);
        let plan = plan(&snapshot, &policy, now);
        execute(&mut snapshot, &plan, now);
        let pool = &mut snapshot.pools[0];
        // Machines are there at once, and empty ones go at once.
        for launch in pool.launches.drain(..) {
            for number in 0..launch.missing {
                let id = (at * 100) as u32 + number;
                pool.nodes.push(node(id, NodeState::Active, &policy.pools[0].offers[0]));
            }
        }
        pool.nodes.retain(|node| node.state == NodeState::Active);
        counts.push(pool.nodes.len());
    }
    counts.dedup();
    insta::assert_debug_snapshot!(counts);
}

#[test]
fn target_value_rests_after_a_change() {
    let mut policy = policy(Strategy::TargetValue);
    policy.pools[0].offers = vec![offer("g5/a/on_demand", 1, 1.0)];
    let mut snapshot = snapshot(Vec::new(), 10);
    let first = plan(&snapshot, &policy, start());
    insta::assert_snapshot!(first);
    execute(&mut snapshot, &first, start());
    snapshot.at = start() + seconds(100);
    snapshot.lanes[0].priorities[0].waiting = predicted(100, 27.0);
    insta::assert_snapshot!(plan(&snapshot, &policy, snapshot.at));
}

/// What is remembered of the runtimes of what arrived, after an hour in which a task came every two seconds, short and long
/// ones in turn: mean, and variance over its square.
fn runtimes_seen_every(tick: Duration) -> (f64, f64) {
    let policy = policy(Strategy::Predictive);
    let mut snapshot = snapshot(Vec::new(), 3);
    for number in 0..(3600.0 / tick.as_secs_f64()) as u32 {
        let passed = tick * number;
        let tasks = passed.as_secs() / 2;
        let seconds = (tasks / 2 * 60 + tasks % 2 * 10) as f64;
        snapshot.at = start() + passed;
        snapshot.lanes[0].priorities[0].arrived = Some(Arrived { tasks, seconds });
        snapshot.memory = plan(&snapshot, &policy, snapshot.at).memory;
    }
    let memory = serde_json::to_value(&snapshot.memory).unwrap();
    let lane = &memory["lanes"]["gpu-24g"];
    (lane["seconds"].as_f64().unwrap(), lane["spread"].as_f64().unwrap())
}

#[test]
fn what_is_learned_of_runtimes_does_not_hang_on_the_tick() {
    let (often, seldom) =
        (runtimes_seen_every(Duration::from_millis(500)), runtimes_seen_every(Duration::from_secs(20)));
    assert!((often.0 - 30.0).abs() < 1.0 && (often.0 - seldom.0).abs() < 0.5, "{often:?}, {seldom:?}");
    assert!(often.1 > 0.1 && (often.1 - seldom.1).abs() < 0.01, "{often:?}, {seldom:?}");
}
