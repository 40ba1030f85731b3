//! What users ask for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulation::dice::Dice;

/// A job.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// When it is posted.
    pub at: Duration,
    /// Its tasks.
    pub tasks: Vec<TaskPlan>,
    /// `high`, `normal`, `low`.
    pub priority: &'static str,
    /// Its own `max_retries`.
    pub max_retries: u32,
    /// Its own `timeout_s`.
    pub timeout_s: u64,
    /// Its key, if only one task with it may run.
    pub exclusive: Option<&'static str>,
    /// How long after its acceptance nobody wants it any more.
    pub cancel_after: Option<Duration>,
    /// Whether its failed tasks are tried once more.
    pub retry: bool,
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPlan {
    /// What it does in the end.
    pub nature: Nature,
    /// What it does before that.
    pub sleep_ms: u64,
    /// What it gives back, if it is fine. Unlike that of any other task.
    pub output: Value,
}

/// What a task is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It succeeds.
    Fine,
    /// Its input is bad.
    Invalid,
    /// It fails each time, as bad luck does.
    Transient,
    /// It takes longer than it may.
    Overlong,
    /// It kills its worker.
    KillsWorker,
    /// It kills its agent.
    KillsAgent,
}

impl Nature {
    /// Whether nothing that it does may be charged.
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Fine | Self::Invalid)
    }
}

/// A text that does not fit into an event: it goes through the object store.
const LARGE_OUTPUT: usize = 66_000;
/// Seconds that a run may take, where a job has tasks that take longer.
pub const SHORT_TIMEOUT_S: u64 = 8;

pub(super) fn draw(dice: &Dice, calm_at: Duration) -> Vec<JobPlan> {
    let mut jobs = Vec::new();
    let mut tasks = 0;
    while tasks < super::TASKS {
        let job = job(dice, jobs.len(), calm_at);
        tasks += job.tasks.len();
        jobs.push(job);
    }
    jobs
}

fn job(dice: &Dice, number: usize, calm_at: Duration) -> JobPlan {
    let overlong = dice.hits(0.06);
    let exclusive = dice.hits(0.2).then(|| dice.pick(&["red", "green", "blue"]));
    let most = if exclusive.is_some() { 4 } else { 16 };
    let count = dice.range(1, most);
    let tasks = (0..count).map(|index| task(dice, number, index, overlong)).collect();
    let span = calm_at.as_millis() as u64;
    JobPlan {
        at: Duration::from_millis(dice.range(0, span * 3 / 4)),
        tasks,
        priority: dice.pick(&["high", "normal", "normal", "low"]),
        max_retries: dice.pick(&[0, 1, 2, 3]),
        timeout_s: if overlong { SHORT_TIMEOUT_S } else { 300 },
        exclusive,
        cancel_after: dice.hits(0.12).then(|| dice.millis(1, 20_000)),
        retry: dice.hits(0.5),
    }
}

fn task(dice: &Dice, job: usize, index: u64, overlong: bool) -> TaskPlan {
    let nature = match dice.range(0, 199) {
        0..4 => Nature::Invalid,
        4..10 => Nature::Transient,
        10..13 => Nature::KillsWorker,
        13..15 => Nature::KillsAgent,
        15..75 if overlong => Nature::Overlong,
        _ => Nature::Fine,
    };
    let sleep_ms = match nature {
        Nature::Overlong => SHORT_TIMEOUT_S * 1000 + dice.range(5_000, 60_000),
        _ if overlong => dice.range(0, SHORT_TIMEOUT_S * 500),
        _ if dice.hits(0.1) => 0,
        _ if dice.hits(0.03) => dice.range(20_000, 60_000),
        _ => dice.millis(5, 12_000).as_millis() as u64,
    };
    let mut output = json!({ "job": job, "task": index });
    if dice.hits(0.01) {
        output["filling"] = "x".repeat(LARGE_OUTPUT).into();
    }
    TaskPlan { nature, sleep_ms, output }
}

impl TaskPlan {
    /// Its input, for `echo`.
    pub fn input(&self) -> Value {
        let mut input = json!({ "sleep_s": self.sleep_ms as f64 / 1000.0, "output": self.output });
        match self.nature {
            Nature::Fine | Nature::Overlong => {}
            Nature::Invalid => input["fail"] = "invalid".into(),
            Nature::Transient => input["fail"] = "transient".into(),
            Nature::KillsWorker => input["crash"] = "worker".into(),
            Nature::KillsAgent => input["crash"] = "agent".into(),
        }
        input
    }
}

impl JobPlan {
    /// What is posted. The label tells which plan it is.
    pub fn body(&self, number: usize) -> Value {
        let inputs: Vec<Value> = self.tasks.iter().map(TaskPlan::input).collect();
        let mut body = json!({
            "model": "echo",
            "inputs": inputs,
            "priority": self.priority,
            "max_retries": self.max_retries,
            "timeout_s": self.timeout_s,
            "labels": { "plan": number.to_string() },
        });
        if let Some(key) = self.exclusive {
            body["exclusive"] = key.into();
        }
        body
    }
}
