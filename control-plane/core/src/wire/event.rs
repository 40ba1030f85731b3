//! What agents report about tasks. Each event is self-contained: a terminal one can be applied alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Checkpoint, V1};
use crate::failure::TaskError;
use crate::id::{Incarnation, LaneName, NodeId, RunId, TaskId};
use crate::lane::Device;
use crate::time::{Timestamp, seconds};

/// A message in `springtide.events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventMessage {
    /// What an agent reports, in the order in which it happened.
    Events {
        /// The message's version.
        v: V1,
        /// The events.
        events: Vec<TaskEvent>,
    },
    /// Put in by the leader: once it comes back, all that was said before it has been applied.
    Marker {
        /// The message's version.
        v: V1,
        /// Told apart by the leader that put it in.
        id: u64,
        /// The leader's fencing token.
        token: u64,
    },
}

/// One thing that happened to one attempt of a task on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task.
    pub task: TaskId,
    /// The publication that it is about.
    pub attempt: u32,
    /// The node that says so.
    pub node: NodeId,
    /// The start of that node's agent.
    pub incarnation: Incarnation,
    /// When it happened, by the node's clock. For people; never compared with another clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: TaskEventKind,
}

/// What can happen to an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEventKind {
    /// It is about to run. Said, and confirmed, before the worker hears of it.
    Started {
        /// The run that begins.
        run: RunId,
        /// The lane that it came through.
        lane: LaneName,
        /// What it runs on.
        device: Device,
    },
    /// A checkpoint of it is in the object store.
    Checkpointed {
        /// The run.
        run: RunId,
        /// The checkpoint.
        checkpoint: Checkpoint,
    },
    /// It is done, and its outputs are in the object store.
    Succeeded {
        /// The run.
        run: RunId,
        /// What it ran on.
        device: Device,
        /// Its outputs.
        outputs: Vec<Output>,
        /// How long it took.
        timings: Timings,
    },
    /// It failed by its own doing, or by that of its node while it ran alone.
    Failed {
        /// The run, if it came to one.
        run: Option<RunId>,
        /// Why.
        error: TaskError,
        /// How long it took.
        timings: Timings,
    },
    /// The agent hands it back.
    Returned {
        /// The run, if it had started.
        run: Option<RunId>,
        /// Why.
        reason: ReturnReason,
        /// For people: what the reason alone does not say, such as the last words of a worker.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
}

impl TaskEventKind {
    /// Its name in logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Checkpointed { .. } => "checkpointed",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Returned { .. } => "returned",
        }
    }
}

/// Why an agent hands a task back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnReason {
    /// The broker delivered it a second time; whether it ran before can't be known, so it does not run here.
    Redelivered,
    /// The node drains.
    Drained,
    /// The control plane no longer wanted the run.
    Unwanted,
    /// A slot-mate has to run solo, or had to be killed.
    SlotMate,
    /// A batch failed as a whole and this member did not get its turn alone.
    BatchFailed,
    /// It should have run solo, and the node's other runs did not end in time.
    SoloTimeout,
    /// Its worker died without explanation: the task becomes a suspect.
    WorkerDied,
    /// The node can't run it: no worker for its kind, no memory, thresholds, full disk.
    NodeUnfit,
}

impl ReturnReason {
    /// Whether the task may have caused it, which the next run, solo, will tell.
    pub const fn is_unexplained_death(self) -> bool {
        matches!(self, Self::WorkerDied)
    }

    /// Its name in logs, metrics and a task's history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redelivered => "redelivered",
            Self::Drained => "drained",
            Self::Unwanted => "unwanted",
            Self::SlotMate => "slot_mate",
            Self::BatchFailed => "batch_failed",
            Self::SoloTimeout => "solo_timeout",
            Self::WorkerDied => "worker_died",
            Self::NodeUnfit => "node_unfit",
        }
    }
}

/// One output of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// A blob in the object store.
    Object {
        /// Its key, which holds attempt and run: two runs never write to one key.
        key: String,
        /// Its media type.
        media_type: String,
        /// Its size.
        size_bytes: u64,
        /// SHA-256 of its bytes, hexadecimal.
        sha256: String,
        /// The seed that it was made with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
    },
    /// Tensors in KServe V2 form, small enough to travel along.
    Inline(Value),
}

impl Output {
    /// The key in the object store, of an output that lies there.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Object { key, .. } => Some(key),
            Self::Inline(_) => None,
        }
    }
}

/// How long the parts of a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Fetching and loading the model, where this run had to.
    #[serde(rename = "load_s", with = "seconds")]
    pub load: Duration,
    /// From the `run` frame to the answer.
    #[serde(rename = "run_s", with = "seconds")]
    pub run: Duration,
    /// How many tasks ran in the same batch; 1: alone. The forecast divides by it.
    #[serde(default)]
    pub batch: u32,
}
