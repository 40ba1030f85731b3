//! A job as it is submitted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use springtide_core::lane::Resources;
use springtide_core::model::{ImageTask, ModelKind};
use springtide_core::wire::TaskInput;
use springtide_core::{JobId, LaneName, ModelId, Priority, Timestamp};

use super::{Fence, ReleaseNow, ReleasedTask};

/// A job that was checked and is to be kept.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Who posted it: the name of the token, or empty.
    pub owner: String,
    /// Makes repeating the request harmless.
    pub idempotency: Option<Idempotency>,
    /// What never changes of it.
    pub spec: JobSpec,
    /// Seconds that all its tasks together are expected to run, as far as is known now.
    pub predicted_s: f64,
    /// Release its first tasks in the same commit, if nothing of equal or higher rank waits for the lane.
    pub release: Option<(Fence, ReleaseNow)>,
}

/// An idempotency key, in the space of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// SHA-256 of the raw body, hexadecimal.
    pub body_sha256: String,
}

/// What never changes of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The model, at a version.
    pub model: ModelId,
    /// Its kind.
    pub kind: ModelKind,
    /// How urgent it is.
    pub priority: Priority,
    /// Its place in the order of release; see `HeadStart::rank`.
    pub rank: Timestamp,
    /// The smallest lane that fits.
    pub lane: LaneName,
    /// What each task needs.
    pub resources: Resources,
    /// The limit of one run of one task.
    #[serde(rename = "timeout_s", with = "springtide_core::time::seconds")]
    pub timeout: Duration,
    /// More charges than this fail a task.
    pub max_retries: u32,
    /// Orders and scales; passing it is reported, not fatal.
    pub deadline: Option<Timestamp>,
    /// For people.
    pub labels: BTreeMap<String, String>,
    /// At most one task with this key runs in the cluster.
    pub exclusive: Option<String>,
    /// How many tasks it has.
    pub tasks: u32,
    /// How many outputs each task has at most: the position of an output in the job is
    /// `task index × outputs_per_task + position in the task`.
    pub outputs_per_task: u32,
    /// Mean size of a task, in the units of its model's kind (see the forecast).
    pub units: f64,
    /// The inputs of its tasks.
    pub input: JobInput,
}

/// The inputs of a job's tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobInput {
    /// Every task has the same (usually there is one task).
    Same(TaskInput),
    /// Pictures, split by seed.
    Images {
        /// All of them, as if one task made them.
        whole: ImageTask,
        /// Pictures of each task.
        images_per_task: u32,
    },
    /// One for each task, in order. The store may keep long lists in chunks.
    Each(Vec<TaskInput>),
    /// Tasks of an earlier job.
    Again {
        /// The job that owns the inputs; never itself a retry.
        source: JobId,
        /// Its tasks, in order.
        ranges: Vec<SourceRange>,
    },
}

/// Tasks `start..start + count` of a source job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRange {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl JobInput {
    /// The input of a task as JSON, where it can be made without other rows; `None` for [`JobInput::Again`], and for
    /// an index that is out of range.
    pub fn of_task(&self, index: u32) -> Option<TaskInput> {
        match self {
            Self::Same(input) => Some(input.clone()),
            Self::Images { whole, images_per_task } => {
                let part = whole.part(index, *images_per_task);
                Some(TaskInput::Inline(serde_json::to_value(part).unwrap_or(Value::Null)))
            }
            Self::Each(inputs) => inputs.get(index as usize).cloned(),
            Self::Again { .. } => None,
        }
    }

    /// Where in the source job the task at `index` of a retry comes from.
    pub fn source_index(ranges: &[SourceRange], index: u32) -> Option<u32> {
        let mut before = 0;
        for range in ranges {
            if index < before + range.count {
                return Some(range.start + (index - before));
            }
            before += range.count;
        }
        None
    }
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The job: the new one, or the one that the idempotency key named before.
    pub job: JobId,
    /// Whether it was there before.
    pub repeated: bool,
    /// Tasks that were released in the same commit; the caller publishes them.
    pub released: Vec<ReleasedTask>,
}
