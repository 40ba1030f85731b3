//! Rows as they are read.

use springtide_core::job::{JobStatus, TaskCounts};
use springtide_core::lane::Device;
use springtide_core::wire::{Output, Timings};
use springtide_core::{JobId, LaneName, ModelId, NodeId, Priority, RunId, TaskError, TaskId, Timestamp};

use super::JobSpec;

/// A job as it stands. `spec.input` is left out of lists, and where it is long (then it is `JobInput::Each(vec![])`).
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Who posted it.
    pub owner: String,
    /// What never changes of it.
    pub spec: JobSpec,
    /// Its tasks by state.
    pub counts: TaskCounts,
    /// Its state.
    pub status: JobStatus,
    /// Grows with each change.
    pub version: u64,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its first task started.
    pub started_at: Option<Timestamp>,
    /// When its last task ended.
    pub finished_at: Option<Timestamp>,
    /// The first failure, with its task.
    pub error: Option<(TaskId, TaskError)>,
    /// Sums over its ended tasks.
    pub timings: JobTimings,
}

/// Sums over a job's tasks that succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobTimings {
    /// Seconds from acceptance to the first start.
    pub wait_s: f64,
    /// Seconds of loading models, all tasks together.
    pub load_s: f64,
    /// Seconds of running, all tasks together.
    pub run_s: f64,
}

/// A task as it stands.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// Which.
    pub id: TaskId,
    /// `waiting`, `released`, `running`, `succeeded`, `failed`, `cancelled`.
    pub state: &'static str,
    /// Its latest publication.
    pub attempt: u32,
    /// Failures that counted.
    pub charges: u32,
    /// Failures that did not.
    pub evictions: u32,
    /// Its next run is solo.
    pub suspect: bool,
    /// The lane it was released to.
    pub lane: Option<LaneName>,
    /// The node that runs or ran it.
    pub node: Option<NodeId>,
    /// The run that is on, or that won.
    pub run: Option<RunId>,
    /// What it runs or ran on.
    pub device: Option<Device>,
    /// When it was last released.
    pub released_at: Option<Timestamp>,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long the winning run took.
    pub timings: Option<Timings>,
    /// Its outputs.
    pub outputs: Vec<Output>,
    /// Why it failed.
    pub error: Option<TaskError>,
}

/// One attempt that did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    /// Its number.
    pub attempt: u32,
    /// The node, if it came to one.
    pub node: Option<NodeId>,
    /// The run, if it came to one.
    pub run: Option<RunId>,
    /// When it was released.
    pub released_at: Option<Timestamp>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// `failed`, `returned: <reason>`, `evicted`, `republished`.
    pub outcome: String,
    /// Whether it was charged.
    pub charged: bool,
    /// What was said.
    pub message: String,
    /// The last lines that the worker wrote, when it died.
    pub stderr_tail: String,
}

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of this status.
    pub status: Option<JobStatus>,
    /// With this label.
    pub label: Option<(String, String)>,
    /// Of this model.
    pub model: Option<ModelId>,
    /// Of this priority.
    pub priority: Option<Priority>,
}

/// Which tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskFilter {
    /// All.
    #[default]
    All,
    /// Those that succeeded: they have the outputs.
    Succeeded,
    /// Those that failed.
    Failed,
}

/// Where a page begins and how long it is.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// What the last page gave as its `next`.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<String>,
}
