//! Jobs and tasks, as they are posted and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::FailureClass;
use crate::id::{JobId, LaneName, ModelId, NodeId, RunId, TaskId};
use crate::job::{JobStatus, TaskCounts};
use crate::lane::Resources;
use crate::priority::Priority;
use crate::time::Timestamp;

/// A job as it is posted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitJob {
    /// `NAME` (its latest version) or `NAME@VERSION`.
    pub model: String,
    /// The input, in the form of the model's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// One input for each task, instead of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<Value>>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// The limit of one run of one task, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// How many charged failures of a task are followed by another try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// When it should be done: a target that orders and scales. Passing it is reported, not fatal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// What each task needs; default: what the model's manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// For finding it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// At most one task with this key runs in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// Its state.
    pub status: JobStatus,
    /// The model, at a version.
    #[schema(value_type = String)]
    pub model: ModelId,
    /// How urgent it is.
    pub priority: Priority,
    /// As they were posted.
    pub labels: BTreeMap<String, String>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its first task started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When its last task ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// When it should be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// How far it is, 0 to 1.
    pub progress: f64,
    /// Seconds until it is done, as far as can be foretold; absent when it is done or nothing is known.
    pub eta_s: Option<f64>,
    /// Its tasks by state.
    pub tasks: TaskCounts,
    /// How long things took.
    pub timings: JobTimings,
    /// The first failure.
    pub error: Option<JobError>,
    /// Its outputs: the first page; the rest at `links.outputs`.
    pub outputs: Vec<OutputView>,
    /// Where to go on.
    pub links: JobLinks,
    /// Grows with each change; the id of its event.
    pub version: u64,
}

/// How long a job's tasks took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobTimings {
    /// Seconds from acceptance to the first start.
    pub wait_s: Option<f64>,
    /// Seconds of loading models, all tasks together.
    pub load_s: f64,
    /// Seconds of running, all tasks together.
    pub run_s: f64,
}

/// The first failure of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobError {
    /// Its class.
    pub class: FailureClass,
    /// What happened.
    pub message: String,
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
}

/// Where to go on from a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobLinks {
    /// The job.
    pub this: String,
    /// Its events, as server-sent events.
    pub events: String,
    /// Its outputs.
    pub outputs: String,
    /// Its tasks.
    pub tasks: String,
    /// `POST` here to cancel it.
    pub cancel: String,
}

impl JobLinks {
    /// The links of a job.
    pub fn of(job: JobId) -> Self {
        let this = format!("/v1/jobs/{job}");
        Self {
            events: format!("{this}/events"),
            outputs: format!("{this}/outputs"),
            tasks: format!("{this}/tasks"),
            cancel: format!("{this}/cancel"),
            this,
        }
    }
}

/// One output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OutputView {
    /// Its position in the job; unique.
    pub index: u64,
    /// The task that made it.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Where its bytes are, of an output that is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of its bytes, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The seed that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Tensors, or whatever the model gives, up to 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
}

/// A task as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskView {
    /// Which.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// `waiting`, `released`, `running`, `succeeded`, `failed`, `cancelled`.
    pub state: String,
    /// How often it was published.
    pub attempt: u32,
    /// Failures that counted against `max_retries`.
    pub charges: u32,
    /// Failures that did not.
    pub evictions: u32,
    /// Its next run is solo: it was running when something died.
    pub suspect: bool,
    /// The lane that it was released to.
    #[schema(value_type = Option<String>)]
    pub lane: Option<LaneName>,
    /// The node that runs or ran it.
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// How far it is, 0 to 1.
    pub progress: f64,
    /// When it was last released.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub released_at: Option<Timestamp>,
    /// When it last started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Seconds of loading the model, of the run that won.
    pub load_s: Option<f64>,
    /// Seconds of running, of the run that won.
    pub run_s: Option<f64>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// The attempts that did not succeed.
    pub attempts: Vec<TaskAttemptView>,
}

/// An attempt that did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskAttemptView {
    /// Its number.
    pub attempt: u32,
    /// The node, if it came to one.
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// The run, if it came to one.
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// When it started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// What became of it.
    pub outcome: String,
    /// Whether it counted against `max_retries`.
    pub charged: bool,
    /// What was said.
    pub message: String,
}
