//! The jobs that are posted, and how each has to end: a function of the seed. Pure.

use std::fmt;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use springtide_core::Priority;
use springtide_core::api::SubmitJob;

/// The label that all jobs of a run carry; its value is the job's number.
pub const LABEL: &str = "chaos";
/// The model that ships, for pictures.
pub const PICTURES: &str = "shapes";
/// A part of it as a TorchScript model of its own.
pub const TORCHSCRIPT: &str = "shapes-text-encoder";
/// Retries of tasks that shall succeed. A fault that hits one while it runs solo is charged, by rule; this many do not
/// come together.
const PATIENT: u32 = 20;
/// Of a job that fails for what it is.
const IMPATIENT: u32 = 1;
/// Keys of which one task at a time may run.
const KEYS: u32 = 8;

/// What a job is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sleeps, and gives back what it was given.
    Echo,
    /// The same with more than fits into a message.
    Large,
    /// The same, one at a time for each key.
    Exclusive,
    /// Cancelled after a while.
    Cancelled,
    /// A small TorchScript module.
    Torchscript,
    /// Pictures from a prompt.
    Pictures,
    /// Fails as bad input does.
    Invalid,
    /// Fails as bad luck does, always.
    Transient,
    /// Kills its worker.
    KillsWorker,
    /// Kills its agent.
    KillsAgent,
}

impl Kind {
    /// Its name, for tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Large => "large echo",
            Self::Exclusive => "exclusive echo",
            Self::Cancelled => "cancelled echo",
            Self::Torchscript => "torchscript",
            Self::Pictures => "pictures",
            Self::Invalid => "invalid",
            Self::Transient => "always failing",
            Self::KillsWorker => "poison: worker",
            Self::KillsAgent => "poison: agent",
        }
    }

    /// How each of its tasks has to end.
    pub const fn expected(self) -> Expected {
        match self {
            Self::Echo | Self::Large | Self::Exclusive | Self::Torchscript | Self::Pictures => {
                Expected::Success
            }
            Self::Cancelled => Expected::SuccessOrCancelled,
            Self::Invalid => Expected::Failure { charges: 0 },
            Self::Transient | Self::KillsWorker | Self::KillsAgent => {
                Expected::Failure { charges: IMPATIENT + 1 }
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a task has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// With the output that belongs to its input.
    Success,
    /// With that, or cancelled.
    SuccessOrCancelled,
    /// Failed after exactly so many charges.
    Failure {
        /// How many.
        charges: u32,
    },
}

/// A job that is to be.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    /// Its place in the load.
    pub number: usize,
    /// When it is posted, after the start of the load.
    pub at: Duration,
    /// What it is like.
    pub kind: Kind,
    /// How many tasks it has.
    pub tasks: usize,
    /// How long after it was accepted it is cancelled.
    pub cancel_after: Option<Duration>,
    /// As it is posted.
    pub job: SubmitJob,
}

/// What a load is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The same seed gives the same load.
    pub seed: u64,
    /// Over how long it is spread.
    pub length: Duration,
    /// About so many tasks.
    pub tasks: usize,
    /// All slots.
    pub slots: u32,
    /// The share of the slots' time that the sleeps of echo tasks take, if nothing goes wrong.
    pub busy: f64,
    /// Whether there is a torch worker.
    pub torch: bool,
}

/// Kinds, how many of a thousand tasks are of it, and how many tasks its jobs have.
const MIX: [(Kind, usize, [usize; 2]); 10] = [
    (Kind::Echo, 880, [1, 40]),
    (Kind::Large, 2, [1, 1]),
    (Kind::Exclusive, 20, [1, 4]),
    (Kind::Cancelled, 40, [5, 40]),
    (Kind::Torchscript, 25, [5, 20]),
    (Kind::Pictures, 5, [2, 4]),
    (Kind::Invalid, 10, [1, 4]),
    (Kind::Transient, 10, [1, 4]),
    (Kind::KillsWorker, 0, [1, 1]),
    (Kind::KillsAgent, 0, [1, 1]),
];

/// Poison tasks of each kind: so many, and one more for each of these times.
const POISON: [(Kind, Duration); 2] =
    [(Kind::KillsWorker, Duration::from_secs(150)), (Kind::KillsAgent, Duration::from_mins(5))];

/// All jobs, in the order in which they are posted.
pub fn load(plan: &Plan) -> Vec<PlannedJob> {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed ^ 0x10ad);
    let mut drafts: Vec<(Duration, Kind, usize)> = Vec::new();
    let moment = |rng: &mut ChaCha8Rng| plan.length.mul_f64(rng.random());
    for (kind, per_thousand, [least, most]) in MIX {
        if matches!(kind, Kind::Torchscript | Kind::Pictures) && !plan.torch {
            continue;
        }
        let mut left = plan.tasks * per_thousand / 1000;
        while left > 0 {
            let tasks = rng.random_range(least..=most).min(left);
            left -= tasks;
            drafts.push((moment(&mut rng), kind, tasks));
        }
    }
    for (kind, every) in POISON {
        let count = 1 + (plan.length.as_secs_f64() / every.as_secs_f64()) as usize;
        drafts.extend((0..count).map(|_| (moment(&mut rng), kind, 1)));
    }
    drafts.sort_by_key(|(at, ..)| *at);
    let mean = plan.busy * f64::from(plan.slots) * plan.length.as_secs_f64() / plan.tasks.max(1) as f64;
    let drafts = drafts.into_iter().enumerate();
    drafts.map(|(number, (at, kind, tasks))| job(number, at, kind, tasks, mean, &mut rng)).collect()
}

fn job(number: usize, at: Duration, kind: Kind, tasks: usize, mean: f64, rng: &mut ChaCha8Rng) -> PlannedJob {
    let (mut input, mut inputs) = (None, None);
    match kind {
        Kind::Pictures => {
            let prompt = *["a red circle on a blue ground", "a yellow star on a purple ground"]
                .choose(rng)
                .unwrap_or(&"");
            input = Some(json!({
                "prompt": prompt, "seed": number as u64, "images": tasks, "images_per_task": 1,
                "steps": rng.random_range(10..=30),
            }));
        }
        Kind::Torchscript => inputs = Some((0..tasks).map(|_| tokens(rng)).collect()),
        _ => inputs = Some((0..tasks).map(|index| echo(kind, number, index, mean, rng)).collect()),
    }
    let model = match kind {
        Kind::Pictures => PICTURES,
        Kind::Torchscript => TORCHSCRIPT,
        _ => "echo",
    };
    let retries = match kind.expected() {
        Expected::Failure { .. } => IMPATIENT,
        _ => PATIENT,
    };
    let priorities = [(Priority::Low, 2), (Priority::Normal, 6), (Priority::High, 2)];
    let priority = priorities.choose_weighted(rng, |(_, weight)| *weight).map_or(Priority::Normal, |of| of.0);
    let exclusive = (kind == Kind::Exclusive).then(|| format!("chaos-key-{}", rng.random_range(0..KEYS)));
    let cancel_after =
        (kind == Kind::Cancelled).then(|| Duration::from_secs_f64(4.0 * mean * rng.random::<f64>()));
    let job = SubmitJob {
        model: model.to_owned(),
        input,
        inputs,
        priority,
        max_retries: Some(retries),
        labels: [(LABEL.to_owned(), number.to_string())].into(),
        exclusive,
        ..SubmitJob::default()
    };
    PlannedJob { number, at, kind, tasks, cancel_after, job }
}

/// What the task gives back: nobody else's.
pub fn token(number: usize, index: usize) -> Value {
    json!({ "job": number, "task": index })
}

/// The bytes that a large task gives back beside its token.
pub const PADDING: usize = 100_000;

fn echo(kind: Kind, number: usize, index: usize, mean: f64, rng: &mut ChaCha8Rng) -> Value {
    let mut input = json!({ "sleep_s": sleep(mean, rng), "output": token(number, index) });
    match kind {
        Kind::Large => input["output"]["padding"] = "x".repeat(PADDING).into(),
        Kind::Invalid => input["fail"] = "invalid".into(),
        Kind::Transient => input["fail"] = "transient".into(),
        Kind::KillsWorker => input["crash"] = "worker".into(),
        Kind::KillsAgent => input["crash"] = "agent".into(),
        _ => {}
    }
    input
}

/// Log-normal with this mean (σ = 1, so the median is e^(−½) of it), to the millisecond, at most 30 means: most are short,
/// a few are long.
fn sleep(mean: f64, rng: &mut ChaCha8Rng) -> f64 {
    // Box–Muller.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
    ((mean * (normal - 0.5).exp()).min(30.0 * mean) * 1e3).round() / 1e3
}

/// An input of the text encoder: 16 tokens.
fn tokens(rng: &mut ChaCha8Rng) -> Value {
    let data: Vec<u32> = (0..16).map(|_| rng.random_range(0..20)).collect();
    json!({ "inputs": [{ "name": "input_ids", "datatype": "INT64", "shape": [1, 16], "data": data }] })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan(tasks: usize) -> Plan {
        Plan { seed: 5, length: Duration::from_mins(10), tasks, slots: 16, busy: 0.4, torch: true }
    }

    fn counts(jobs: &[PlannedJob]) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for job in jobs {
            *counts.entry(job.kind).or_default() += job.tasks;
        }
        counts
    }

    #[test]
    fn it_has_the_mix_that_was_asked_for() {
        let jobs = load(&plan(20_000));
        let counts = counts(&jobs);
        assert_eq!((counts[&Kind::Torchscript], counts[&Kind::Pictures]), (500, 100));
        assert_eq!((counts[&Kind::KillsWorker], counts[&Kind::KillsAgent]), (5, 3));
        let all: usize = counts.values().sum();
        assert!((19_500..=20_100).contains(&all), "{all} tasks");
        assert!(jobs.is_sorted_by_key(|job| job.at));
        let priorities = jobs.iter().filter(|job| job.job.priority == Priority::High).count();
        assert!((jobs.len() / 10..jobs.len() / 3).contains(&priorities), "{priorities} of {}", jobs.len());
    }

    #[test]
    fn the_seed_decides() {
        let text = |jobs: &[PlannedJob]| format!("{jobs:?}");
        assert_eq!(text(&load(&plan(500))), text(&load(&plan(500))));
        assert_ne!(text(&load(&plan(500))), text(&load(&Plan { seed: 6, ..plan(500) })));
    }

    #[test]
    fn sleeps_keep_the_slots_as_busy_as_asked_for() {
        let jobs = load(&plan(20_000));
        let inputs = jobs.iter().filter_map(|job| job.job.inputs.as_ref()).flatten();
        let slept: f64 = inputs.filter_map(|input| input["sleep_s"].as_f64()).sum();
        let busy = slept / (16.0 * 600.0);
        assert!((0.35..=0.42).contains(&busy), "{busy}");
    }

    #[test]
    fn without_torch_there_is_none_of_it() {
        let counts = counts(&load(&Plan { torch: false, ..plan(1000) }));
        assert!(!counts.contains_key(&Kind::Torchscript) && !counts.contains_key(&Kind::Pictures));
    }
}
