//! A task's row. What its state no longer carries (the lane it came through, the node that ran it) stays in the row.

use springtide_core::lane::Device;
use springtide_core::task::{Running, Success, Task, TaskState};
use springtide_core::wire::{Output, Timings};
use springtide_core::{Incarnation, LaneName, NodeId, RunId, TaskError, TaskId, Timestamp};

use super::Ending;
use super::job::JobEntry;
use crate::connection::{Row, Value, json, set};
use crate::{Error, Result};

/// A task in the ledger.
pub(in crate::transaction) struct TaskEntry {
    pub(in crate::transaction) task: Task,
    pub(in crate::transaction) trail: Trail,
    pub(super) changed: bool,
}

/// Where a task was last.
#[derive(Clone, Debug, Default)]
pub(in crate::transaction) struct Trail {
    pub(in crate::transaction) lane: Option<LaneName>,
    pub(in crate::transaction) released_at: Option<Timestamp>,
    pub(in crate::transaction) node: Option<NodeId>,
    pub(in crate::transaction) incarnation: Option<Incarnation>,
    pub(in crate::transaction) run: Option<RunId>,
    pub(in crate::transaction) device: Option<Device>,
    pub(in crate::transaction) started_at: Option<Timestamp>,
    pub(in crate::transaction) ended_at: Option<Timestamp>,
}

/// All columns that [`TaskEntry::read`] takes.
macro_rules! columns {
    () => {
        "job, idx, state, attempt, charges, evictions, suspect, checkpoint, not_before, lane, released_at, solo, node, \
         incarnation, run, device, started_at, ended_at, won_attempt, timings, outputs, error"
    };
}

pub(in crate::transaction) use columns;

/// Loads one task.
pub(in crate::transaction) const LOAD: &str =
    concat!("SELECT ", columns!(), " FROM tasks WHERE job = $1 AND idx = $2");
/// Loads a job's tasks that have not ended.
pub(in crate::transaction) const LOAD_OPEN: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM tasks WHERE job = $1 AND state IN ('waiting', 'released', 'running') ORDER BY idx"
);
/// Writes a task.
pub(super) const SAVE: &str = concat!(
    "INSERT INTO tasks (",
    columns!(),
    ", class, rank) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
     $20, $21, $22, $23, $24) ON CONFLICT (job, idx) DO UPDATE SET state = excluded.state, \
     attempt = excluded.attempt, charges = excluded.charges, evictions = excluded.evictions, \
     suspect = excluded.suspect, checkpoint = excluded.checkpoint, not_before = excluded.not_before, \
     lane = excluded.lane, released_at = excluded.released_at, solo = excluded.solo, node = excluded.node, \
     incarnation = excluded.incarnation, run = excluded.run, device = excluded.device, \
     started_at = excluded.started_at, ended_at = excluded.ended_at, won_attempt = excluded.won_attempt, \
     timings = excluded.timings, outputs = excluded.outputs, error = excluded.error, class = excluded.class, \
     rank = excluded.rank"
);
/// Keeps an attempt that did not succeed. One that is there is not overwritten: its first end is the true one.
pub(super) const REMEMBER: &str = "INSERT INTO task_attempts (job, idx, attempt, node, run, released_at, started_at, \
    ended_at, outcome, charged, message, stderr_tail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
    ON CONFLICT (job, idx, attempt) DO NOTHING";

impl TaskEntry {
    /// A task that has no row yet.
    pub(super) fn new(task: Task) -> Self {
        Self { task, trail: Trail::default(), changed: true }
    }

    /// From the columns of `columns!`. Whether the task is exclusive stands in its job's row.
    pub(in crate::transaction) fn read(mut row: Row) -> Result<Self> {
        let id = TaskId { job: row.take()?, index: row.take()? };
        let state: String = row.take()?;
        let mut task = Task::new(id, false, Timestamp::default());
        task.attempt = row.take()?;
        task.charges = row.take()?;
        task.evictions = row.take()?;
        task.suspect = row.take()?;
        task.checkpoint = row.optional_json()?;
        let not_before: Option<Timestamp> = row.take()?;
        let lane = row.take()?;
        let released_at = row.take()?;
        let solo = row.take()?;
        let trail = Trail {
            lane,
            released_at,
            node: row.take()?,
            incarnation: row.take()?,
            run: row.take()?,
            device: row.take::<Option<String>>()?.map(|name| device_of(&name)).transpose()?,
            started_at: row.take()?,
            ended_at: row.take()?,
        };
        let won_attempt: Option<u32> = row.take()?;
        let timings: Option<Timings> = row.optional_json()?;
        let outputs: Option<Vec<Output>> = row.optional_json()?;
        let error: Option<TaskError> = row.optional_json()?;
        let incomplete = || Error::Broken(format!("the row of task {id}, which is {state}, is incomplete"));
        let read_state = || {
            Some(match state.as_str() {
                "waiting" => TaskState::Waiting { not_before: not_before.unwrap_or_default() },
                "released" => TaskState::Released { lane: trail.lane.clone()?, at: trail.released_at?, solo },
                "running" => TaskState::Running(Running {
                    lane: trail.lane.clone()?,
                    run: trail.run?,
                    node: trail.node.clone()?,
                    incarnation: trail.incarnation?,
                    device: trail.device?,
                    released_at: trail.released_at?,
                    started_at: trail.started_at?,
                    solo,
                }),
                "succeeded" => TaskState::Succeeded(Success {
                    run: trail.run?,
                    node: trail.node.clone()?,
                    attempt: won_attempt?,
                    device: trail.device?,
                    outputs: outputs.unwrap_or_default(),
                    timings: timings?,
                    at: trail.ended_at?,
                }),
                "failed" => TaskState::Failed { error: error?, at: trail.ended_at? },
                "cancelled" => TaskState::Cancelled { at: trail.ended_at? },
                _ => return None,
            })
        };
        task.state = read_state().ok_or_else(incomplete)?;
        Ok(Self { task, trail, changed: false })
    }

    /// The task has changed into this.
    pub(super) fn become_task(&mut self, after: Task) {
        let trail = &mut self.trail;
        match &after.state {
            TaskState::Waiting { .. } => {}
            TaskState::Released { lane, at, .. } => {
                *trail = Trail { lane: Some(lane.clone()), released_at: Some(*at), ..Trail::default() };
            }
            TaskState::Running(running) => {
                *trail = Trail {
                    lane: Some(running.lane.clone()),
                    released_at: Some(running.released_at),
                    node: Some(running.node.clone()),
                    incarnation: Some(running.incarnation),
                    run: Some(running.run),
                    device: Some(running.device),
                    started_at: Some(running.started_at),
                    ended_at: None,
                };
            }
            TaskState::Succeeded(success) => {
                if trail.run != Some(success.run) {
                    // An earlier attempt won: what is known of the current one is not about it.
                    trail.incarnation = None;
                    trail.started_at = None;
                }
                trail.node = Some(success.node.clone());
                trail.run = Some(success.run);
                trail.device = Some(success.device);
                trail.ended_at = Some(success.at);
            }
            TaskState::Failed { at, .. } | TaskState::Cancelled { at } => trail.ended_at = Some(*at),
        }
        self.task = after;
        self.changed = true;
    }

    /// Its row. While it may be released it stands in the order of release, by its job's class and rank.
    pub(super) fn row(&self, now: Timestamp, job: Option<&JobEntry>) -> Vec<Value> {
        let Self { task, trail, .. } = self;
        let delayed = match task.state {
            TaskState::Waiting { not_before } if not_before > now => Some(not_before),
            _ => None,
        };
        let ready = matches!(task.state, TaskState::Waiting { .. }) && delayed.is_none();
        let place = job.filter(|_| ready);
        let solo = match &task.state {
            TaskState::Released { solo, .. } => *solo,
            TaskState::Running(running) => running.solo,
            _ => false,
        };
        let success = match &task.state {
            TaskState::Succeeded(success) => Some(success),
            _ => None,
        };
        let error = match &task.state {
            TaskState::Failed { error, .. } => Some(error),
            _ => None,
        };
        set![
            task.id.job,
            task.id.index,
            task.state.as_str(),
            task.attempt,
            task.charges,
            task.evictions,
            task.suspect,
            task.checkpoint.as_ref().map(json),
            delayed,
            trail.lane.as_ref(),
            trail.released_at,
            solo,
            trail.node.as_ref(),
            trail.incarnation,
            trail.run,
            trail.device.map(Device::as_str),
            trail.started_at,
            trail.ended_at,
            success.map(|success| success.attempt),
            success.map(|success| json(&success.timings)),
            success.filter(|success| !success.outputs.is_empty()).map(|success| json(&success.outputs)),
            error.map(json),
            place.map(JobEntry::class),
            place.map(|job| job.rank),
        ]
    }
}

/// The row of an attempt that ended without success; `before`: the task as it was then.
pub(super) fn attempt_row(before: &Task, ending: Ending, now: Timestamp) -> Vec<Value> {
    let (released_at, running) = match &before.state {
        TaskState::Released { at, .. } => (Some(*at), None),
        TaskState::Running(running) => (Some(running.released_at), Some(running)),
        _ => (None, None),
    };
    set![
        before.id.job,
        before.id.index,
        before.attempt,
        running.map(|running| running.node.clone()).or(ending.node),
        running.map(|running| running.run).or(ending.run),
        released_at,
        running.map(|running| running.started_at),
        now,
        ending.outcome,
        ending.charged,
        ending.message,
        ending.stderr_tail,
    ]
}

/// A stored device.
pub(in crate::transaction) fn device_of(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda),
        _ => Err(Error::Broken(format!("`{name}` is no device"))),
    }
}
