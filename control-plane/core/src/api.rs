//! What users send and see over HTTP. Times are RFC 3339 UTC with six fractional digits, durations seconds in fields that
//! end in `_s`, sizes bytes in fields that end in `_bytes`.

mod cluster;
mod job;
mod launch;
mod node;
mod problem;

use serde::{Deserialize, Serialize};

pub use cluster::{ArrivalsView, ClusterView, DueView, LaneView, Predicted, WorkView};
pub use job::{JobError, JobLinks, JobTimings, JobView, OutputView, SubmitJob, TaskAttemptView, TaskView};
pub use launch::{LaunchView, LeaseGrant, LeaseWish, PutLaunch};
pub use node::{DrainNode, ModelView, NodeView, RetireNode, RunView};
pub use problem::Problem;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the next part; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
