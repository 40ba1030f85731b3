//! What came of a simulation.

use serde::Serialize;

use crate::trace::Task;

/// Everything that happened.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Microseconds since the epoch at second 0.
    pub epoch: i64,
    /// When the last task had ended, in s.
    pub length: f64,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What became of each of them.
    pub jobs: Vec<JobRow>,
    /// The machines, in the order of their launches.
    pub nodes: Vec<NodeRow>,
    /// How it stood, in equal steps.
    pub samples: Vec<Sample>,
    /// How often the planner planned.
    pub plans: u64,
    /// Seconds of active slots with nothing to do.
    pub idle: f64,
    /// Seconds of machines that booted.
    pub booting: f64,
    /// See `Options::deadline`.
    pub deadline: f64,
}

/// What became of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobRow {
    /// When it first started.
    pub start: Option<f64>,
    /// When it ended.
    pub finish: Option<f64>,
    /// The machine that ran it last.
    pub node: u64,
    /// How often its machine was taken from under it.
    pub evictions: u32,
    /// Seconds of it that were done before it was evicted.
    pub progress: f64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    /// Its number.
    pub node: u64,
    /// Its pool, as an index of the policy's.
    pub pool: u32,
    /// What was rented.
    pub offer: String,
    /// Its slots.
    pub slots: u32,
    /// When it was rented.
    pub launch: f64,
    /// When it took tasks first.
    pub ready: Option<f64>,
    /// When it was given back, or taken.
    pub end: f64,
    /// Its price.
    pub price_per_hour: f64,
}

/// How it stood at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: f64,
    /// Machines that take tasks.
    pub active: u32,
    /// Machines that boot.
    pub coming: u32,
    /// Tasks that run.
    pub busy: u32,
    /// Tasks that wait.
    pub waiting: u32,
    /// How long the oldest of them has waited, in s.
    pub oldest: f64,
}

/// It in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Tasks that ended.
    pub tasks: u64,
    /// Tasks that had not ended when the simulation was given up.
    pub unfinished: u64,
    /// Seconds of work.
    pub work_s: f64,
    /// Seconds of slots paid for, from launch to end, over seconds of work.
    pub cost_per_work: f64,
    /// Money paid.
    pub cost: f64,
    /// Mean wait.
    pub wait_mean_s: f64,
    /// Percentiles of the wait.
    pub wait_p50_s: f64,
    /// 95 %.
    pub wait_p95_s: f64,
    /// 99 %.
    pub wait_p99_s: f64,
    /// Machines rented.
    pub launches: u64,
    /// Most machines at once.
    pub most_nodes: u32,
    /// Idle seconds over seconds of work.
    pub idle_per_work: f64,
    /// Boot seconds over seconds of work.
    pub boot_per_work: f64,
    /// Tasks that were evicted.
    pub evicted: u64,
    /// Tasks that ended too late, over all.
    pub late: f64,
}

/// A value below which a part of a sorted list lies.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

impl Outcome {
    /// It in a few numbers.
    pub fn summary(&self) -> Summary {
        let pairs = || self.tasks.iter().zip(&self.jobs);
        let mut waits: Vec<f64> = pairs().filter_map(|(task, job)| Some(job.start? - task.at)).collect();
        waits.sort_by(f64::total_cmp);
        let done = pairs().filter(|(_, job)| job.finish.is_some());
        let work: f64 = done.clone().map(|(task, _)| task.seconds).sum();
        let on_time = |(task, job): &(&Task, &crate::outcome::JobRow)| {
            job.finish.is_some_and(|finish| finish - task.at <= self.deadline)
        };
        let late = pairs().filter(|pair| !on_time(pair)).count();
        let paid: f64 = self.nodes.iter().map(|node| (node.end - node.launch) * f64::from(node.slots)).sum();
        let cost =
            self.nodes.iter().map(|node| (node.end - node.launch) / 3600.0 * node.price_per_hour).sum();
        let tasks = done.count() as u64;
        Summary {
            tasks,
            unfinished: self.tasks.len() as u64 - tasks,
            work_s: work,
            cost_per_work: paid / work,
            cost,
            wait_mean_s: waits.iter().sum::<f64>() / waits.len().max(1) as f64,
            wait_p50_s: quantile(&waits, 0.5),
            wait_p95_s: quantile(&waits, 0.95),
            wait_p99_s: quantile(&waits, 0.99),
            launches: self.nodes.len() as u64,
            most_nodes: self.samples.iter().map(|sample| sample.active + sample.coming).max().unwrap_or(0),
            idle_per_work: self.idle / work,
            boot_per_work: self.booting / work,
            evicted: self.jobs.iter().filter(|job| job.evictions > 0).count() as u64,
            late: late as f64 / self.tasks.len().max(1) as f64,
        }
    }
}
