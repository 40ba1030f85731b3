//! Nodes and models, as they are shown and handled.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{LaneName, ModelId, NodeId, RunId, TaskId};
use crate::model::ModelKind;
use crate::time::Timestamp;

/// A node as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeView {
    /// Which.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// `launching`, `active`, `draining`, `empty`, `retiring`, `lost`, `gone`.
    pub state: String,
    /// Why it is in that state, or takes no tasks, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// While it drains: until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub drain_until: Option<Timestamp>,
    /// The lane that it is made for.
    #[schema(value_type = String)]
    pub lane: LaneName,
    /// The lane that it consumes now.
    #[schema(value_type = Option<String>)]
    pub consuming: Option<LaneName>,
    /// The pool that it belongs to.
    pub pool: Option<String>,
    /// How many tasks it takes at once.
    pub slots: u32,
    /// When it was heard first.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_heard_at: Option<Timestamp>,
    /// When it was heard last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
    /// What it runs.
    pub runs: Vec<RunView>,
    /// Deliveries that it has not started.
    pub held: u32,
    /// Models in its cache.
    #[schema(value_type = Vec<String>)]
    pub models: Vec<ModelId>,
    /// Use of all cores, 0 to 1.
    pub cpu: f64,
    /// Devices, as the agent describes them.
    #[schema(value_type = Vec<Object>)]
    pub devices: Vec<crate::wire::DeviceFigures>,
    /// The agent's version.
    pub version: String,
}

/// A run on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunView {
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// How far it is, 0 to 1.
    pub progress: f64,
    /// Seconds that it has run.
    pub elapsed_s: f64,
}

/// Wish to empty a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainNode {
    /// What is not done by then is checkpointed and handed back.
    #[serde(default = "two_minutes")]
    pub deadline_s: f64,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}

const fn two_minutes() -> f64 {
    120.0
}

/// Wish to terminate a node; irreversible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireNode {
    /// The lease that allows it.
    pub lease: String,
    /// That lease's fencing token.
    pub token: u64,
    /// Of a node that was never heard: its lane. It is entered as retiring, so that it gets no work if it speaks yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lane: Option<LaneName>,
    /// Likewise: its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// A model as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelView {
    /// Name and version.
    #[schema(value_type = String)]
    pub id: ModelId,
    /// Its kind.
    pub kind: ModelKind,
    /// Size of its files.
    pub size_bytes: u64,
    /// When it was pushed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pushed_at: Option<Timestamp>,
    /// Its manifest, as JSON.
    #[schema(value_type = Object)]
    pub manifest: Value,
}
