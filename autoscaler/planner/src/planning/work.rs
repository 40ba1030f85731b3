//! The work that a pool is for: waiting by priority, what remains of what runs, what is expected.

use springtide_core::api::Predicted;
use springtide_core::{LaneName, Priority, Timestamp};
use springtide_forecast::Distribution;

use crate::memory::Memory;
use crate::policy::{Policy, Pool};
use crate::snapshot::{Due, LaneDemand, Snapshot};

/// A runtime of which nothing is known, in s: mean and second moment.
const UNKNOWN: (f64, f64) = (10.0, 200.0);

/// What waits of one priority and above.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Class {
    /// Tasks that wait or are released.
    pub(crate) tasks: u64,
    /// How long they take one slot, all together.
    pub(crate) seconds: Distribution,
    /// How long the oldest has waited, in s.
    pub(crate) oldest: f64,
}

/// The work of a pool's lanes.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// By priority, lowest first; each holds those above as well.
    pub(crate) classes: [Class; 3],
    /// Tasks that run on the lane's nodes.
    pub(crate) running: u64,
    /// What remains of them.
    pub(crate) remaining: Distribution,
    /// First and second moment of a task's seconds.
    pub(crate) runtime: (f64, f64),
    /// Work with a deadline, the earliest first.
    pub(crate) deadlines: Vec<Due>,
}

impl Work {
    pub(super) fn of(
        pool: &Pool,
        snapshot: &Snapshot,
        policy: &Policy,
        memory: &Memory,
        now: Timestamp,
    ) -> Self {
        let lanes: Vec<&LaneName> = pool.lane.iter().chain(&pool.also_for).collect();
        let demands: Vec<&LaneDemand> =
            snapshot.lanes.iter().filter(|demand| lanes.contains(&&demand.lane)).collect();
        let mut classes = [Class::default(); 3];
        for (class, least) in classes.iter_mut().zip(Priority::ALL) {
            for one in
                demands.iter().flat_map(|demand| &demand.priorities).filter(|one| one.priority >= least)
            {
                class.tasks += one.waiting.tasks + one.released.tasks;
                class.seconds = class.seconds + distribution(&one.waiting) + distribution(&one.released);
                let age = one.oldest_waiting.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
                class.oldest = class.oldest.max(age);
            }
        }
        let runtime = pool
            .lane
            .as_ref()
            .and_then(|lane| memory.lanes.get(lane))
            .and_then(crate::memory::LaneMemory::runtime);
        let runtime = runtime.unwrap_or_else(|| mean_of(&classes[0]));
        let runs = Runs::of(pool, snapshot, policy, runtime, now);
        // Whose they are is not known: they count with the normal work. Their seconds count among what remains.
        for class in &mut classes[..=1] {
            class.tasks += runs.coming_back;
        }
        let mut deadlines: Vec<Due> = demands.iter().flat_map(|demand| &demand.deadlines).copied().collect();
        deadlines.sort_by_key(|due| due.by);
        Self { classes, running: runs.count, remaining: runs.remaining, runtime, deadlines }
    }

    /// Tasks that wait, are released or run.
    pub(crate) fn open(&self) -> u64 {
        self.classes[0].tasks + self.running
    }
}

fn distribution(predicted: &Predicted) -> Distribution {
    Distribution { mean: predicted.mean_s.max(0.0), variance: predicted.variance_s2.max(0.0) }
}

fn mean_of(class: &Class) -> (f64, f64) {
    if class.tasks == 0 || class.seconds.mean <= 0.0 {
        return UNKNOWN;
    }
    let count = class.tasks as f64;
    let mean = class.seconds.mean / count;
    (mean, mean * mean + class.seconds.variance / count)
}

/// What runs on the nodes of all pools of a lane.
#[derive(Default)]
struct Runs {
    count: u64,
    /// Those on machines that the provider takes back before they are done: somebody else has to go on with them.
    coming_back: u64,
    /// What the lane's slots have to do yet: of all but those that a machine ends just before it is taken back.
    remaining: Distribution,
}

impl Runs {
    fn of(pool: &Pool, snapshot: &Snapshot, policy: &Policy, runtime: (f64, f64), now: Timestamp) -> Self {
        let (mean, square) = runtime;
        let usual = Distribution { mean, variance: (square - mean * mean).max(0.0) };
        let of_lane =
            |name: &str| policy.pools.iter().any(|other| other.name == name && other.lane == pool.lane);
        let nodes = snapshot.pools.iter().filter(|state| of_lane(&state.name)).flat_map(|state| &state.nodes);
        let mut runs = Self::default();
        for (node, run) in nodes.flat_map(|node| node.runs.iter().map(move |run| (node, run))) {
            let rest = run.predicted.unwrap_or(usual).after(run.elapsed.as_secs_f64());
            runs.count += 1;
            match node.doomed_at {
                Some(at) if rest.mean <= at.since(now).as_secs_f64() => continue,
                Some(_) => runs.coming_back += 1,
                None => {}
            }
            runs.remaining = runs.remaining + rest;
        }
        runs
    }
}
