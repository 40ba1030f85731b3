//! When what is done to whom: a function of the seed. Pure.

use std::collections::HashMap;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fault::{Action, Fault, Group, Subject, Target, Worker};

/// Nothing is done before: the nodes get to know their first tasks.
const BEGIN: Duration = Duration::from_secs(5);
/// A subject is left alone for so long after a fault, so that its recovery can be told apart.
const REST: Duration = Duration::from_secs(2);

/// How often a kind is chosen of which nobody is free, before there is no fault.
const TRIES: usize = 8;

/// What a schedule is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The same seed gives the same schedule.
    pub seed: u64,
    /// How long faults may begin.
    pub length: Duration,
    /// The mean time between two.
    pub every: Duration,
    /// Which.
    pub groups: Vec<Group>,
    /// How many agents there are.
    pub agents: usize,
    /// How many control planes.
    pub control_planes: usize,
    /// Whether they reach the locks over a wire of its own.
    pub redis: bool,
}

/// A kind of fault, how often it is chosen among the others, and how long it lasts: mostly the first range of seconds,
/// sometimes the second.
struct Kind {
    group: Group,
    action: Action,
    weight: u32,
    usual: [f64; 2],
    long: [f64; 2],
    targets: fn(&Plan) -> Vec<Target>,
}

const fn kind(
    group: Group,
    action: Action,
    weight: u32,
    usual: [f64; 2],
    long: [f64; 2],
    targets: fn(&Plan) -> Vec<Target>,
) -> Kind {
    Kind { group, action, weight, usual, long, targets }
}

/// What is long enough for a node to be taken for lost, and for another control plane to lead.
const LONG: [f64; 2] = [8.0, 16.0];
/// The share of faults that last long.
const LONG_SHARE: f64 = 0.3;

const KINDS: [Kind; 17] = [
    kind(Group::Kill, Action::Kill, 12, [0.2, 3.0], LONG, agents),
    kind(Group::Kill, Action::Kill, 16, [0.0, 0.0], [0.0, 0.0], workers),
    kind(Group::Kill, Action::Kill, 8, [0.2, 3.0], LONG, control_planes),
    kind(Group::Stop, Action::Stop, 8, [0.5, 4.0], LONG, agents),
    kind(Group::Stop, Action::Stop, 8, [0.5, 4.0], LONG, workers),
    kind(Group::Stop, Action::Stop, 6, [0.5, 4.0], LONG, control_planes),
    kind(Group::Broker, Action::Restart, 2, [0.0, 1.0], [2.0, 5.0], broker),
    kind(Group::Broker, Action::Kill, 2, [0.0, 1.0], [2.0, 5.0], broker),
    kind(Group::Network, Action::Cut, 6, [0.1, 3.0], LONG, agents_to_broker),
    kind(Group::Network, Action::Stall, 6, [0.5, 4.0], LONG, agents_to_broker),
    kind(Group::Network, Action::Slow, 2, [2.0, 6.0], LONG, agents_to_broker),
    kind(Group::Network, Action::Cut, 5, [0.1, 3.0], LONG, control_plane_wires),
    kind(Group::Network, Action::Stall, 5, [0.5, 4.0], LONG, control_plane_wires),
    kind(Group::Network, Action::Slow, 2, [2.0, 6.0], LONG, control_plane_wires),
    kind(Group::Network, Action::Cut, 3, [0.1, 3.0], LONG, users_to),
    kind(Group::Disk, Action::Fill, 4, [3.0, 8.0], LONG, disks),
    kind(Group::Disk, Action::Fill, 3, [2.0, 5.0], [5.0, 10.0], objects),
];

fn agents(plan: &Plan) -> Vec<Target> {
    (0..plan.agents).map(Target::Agent).collect()
}

fn workers(plan: &Plan) -> Vec<Target> {
    // Most of the work is echo's.
    let of = |agent| [Worker::Echo, Worker::Echo, Worker::Torch].map(|worker| Target::Worker(agent, worker));
    (0..plan.agents).flat_map(of).collect()
}

fn control_planes(plan: &Plan) -> Vec<Target> {
    (0..plan.control_planes).map(Target::ControlPlane).collect()
}

fn broker(_: &Plan) -> Vec<Target> {
    vec![Target::Broker]
}

fn agents_to_broker(plan: &Plan) -> Vec<Target> {
    (0..plan.agents).map(Target::AgentToBroker).collect()
}

fn control_plane_wires(plan: &Plan) -> Vec<Target> {
    let kinds: [fn(usize) -> Target; 3] =
        [Target::ControlPlaneToBroker, Target::ControlPlaneToStore, Target::ControlPlaneToLocks];
    let kinds = &kinds[..if plan.redis { 3 } else { 2 }];
    (0..plan.control_planes).flat_map(|index| kinds.iter().map(move |wire| wire(index))).collect()
}

fn users_to(plan: &Plan) -> Vec<Target> {
    (0..plan.control_planes).map(Target::UsersTo).collect()
}

fn disks(plan: &Plan) -> Vec<Target> {
    (0..plan.agents).map(Target::AgentDisk).collect()
}

fn objects(_: &Plan) -> Vec<Target> {
    vec![Target::Objects]
}

/// All faults, in the order in which they begin. The gaps between them are exponential: faults come in bursts, too.
pub fn schedule(plan: &Plan) -> Vec<Fault> {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| plan.groups.contains(&kind.group)).collect();
    let mut busy: HashMap<Subject, Duration> = HashMap::new();
    let mut faults = Vec::new();
    let mut at = BEGIN;
    if kinds.is_empty() {
        return faults;
    }
    loop {
        at += plan.every.mul_f64(-(1.0 - rng.random::<f64>()).ln()).max(Duration::from_millis(50));
        if at >= plan.length {
            return faults;
        }
        busy.retain(|_, until| *until > at);
        let Some((kind, target)) = choose(plan, &kinds, &busy, &mut rng) else { continue };
        let range = if rng.random_bool(LONG_SHARE) { kind.long } else { kind.usual };
        let lasts = Duration::from_secs_f64(range[0] + (range[1] - range[0]) * rng.random::<f64>());
        busy.insert(target.subject(), at + lasts + REST);
        let number = faults.len();
        faults.push(Fault { number, at, action: kind.action, target, lasts });
    }
}

/// A kind of fault, and somebody whom it may happen to now.
fn choose<'a>(
    plan: &Plan,
    kinds: &[&'a Kind],
    busy: &HashMap<Subject, Duration>,
    rng: &mut ChaCha8Rng,
) -> Option<(&'a Kind, Target)> {
    for _ in 0..TRIES {
        let kind = *kinds.choose_weighted(rng, |kind| kind.weight).ok()?;
        let targets = (kind.targets)(plan);
        let free: Vec<Target> =
            targets.into_iter().filter(|target| is_free(plan, busy, target.subject())).collect();
        if let Some(target) = free.choose(rng) {
            return Some((kind, *target));
        }
    }
    None
}

/// Nobody has two faults at once, and neither have more than half of the agents or all control planes: of what stands
/// still as a whole there is no recovery to be measured.
fn is_free(plan: &Plan, busy: &HashMap<Subject, Duration>, subject: Subject) -> bool {
    let others = |like: fn(&Subject) -> bool| busy.keys().filter(|other| like(other)).count();
    let room = match subject {
        Subject::Node(_) => others(|other| matches!(other, Subject::Node(_))) < plan.agents.div_ceil(2),
        Subject::ControlPlane(_) => {
            others(|other| matches!(other, Subject::ControlPlane(_)))
                < plan.control_planes.saturating_sub(1).max(1)
        }
        Subject::Broker | Subject::Objects => true,
    };
    room && !busy.contains_key(&subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            seed,
            length: Duration::from_mins(10),
            every: Duration::from_secs(5),
            groups: Group::value_variants().to_vec(),
            agents: 4,
            control_planes: 2,
            redis: true,
        }
    }

    use clap::ValueEnum;

    #[test]
    fn the_seed_decides() {
        assert_eq!(schedule(&plan(7)), schedule(&plan(7)));
        assert_ne!(schedule(&plan(7)), schedule(&plan(8)));
    }

    #[test]
    fn faults_come_as_often_as_asked_for_and_in_order() {
        let counts: Vec<usize> = (0..50).map(|seed| schedule(&plan(seed)).len()).collect();
        let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        assert!((105.0..=125.0).contains(&mean), "{mean} faults in ten minutes, on average");
        for seed in 0..50 {
            let faults = schedule(&plan(seed));
            assert!(faults.is_sorted_by_key(|fault| fault.at));
            assert!(faults.iter().all(|fault| fault.at >= BEGIN && fault.at < plan(seed).length));
        }
    }

    #[test]
    fn nobody_has_two_faults_at_once_and_somebody_has_none() {
        for seed in 0..50 {
            let mut until: HashMap<Subject, Duration> = HashMap::new();
            for fault in schedule(&plan(seed)) {
                until.retain(|_, until| *until > fault.at);
                let before = until.insert(fault.target.subject(), fault.at + fault.lasts);
                assert_eq!(before, None, "seed {seed}: {fault}");
                let nodes = until.keys().filter(|subject| matches!(subject, Subject::Node(_))).count();
                let control_planes =
                    until.keys().filter(|subject| matches!(subject, Subject::ControlPlane(_))).count();
                assert!(nodes <= 2 && control_planes <= 1, "seed {seed}: {fault}");
            }
        }
    }

    #[test]
    fn only_what_is_asked_for_happens_and_all_of_it_does() {
        let kills = Plan { groups: vec![Group::Kill], ..plan(3) };
        assert!(schedule(&kills).iter().all(|fault| fault.action == Action::Kill));
        assert!(schedule(&Plan { groups: Vec::new(), ..plan(3) }).is_empty());
        let mut seen: Vec<(Action, &str)> = (0..20)
            .flat_map(|seed| schedule(&plan(seed)))
            .map(|fault| (fault.action, fault.target.kind()))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 23, "{seen:?}");
    }
}
