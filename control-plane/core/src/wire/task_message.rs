//! The message that hands one task to an agent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::V1;
use crate::id::{ModelId, TaskId};
use crate::lane::Resources;
use crate::model::ModelKind;
use crate::time::{Timestamp, seconds};

/// One publication of one task. All that an agent needs to run it; it never asks back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskMessage {
    /// The message's version.
    pub v: V1,
    /// The task.
    pub task: TaskId,
    /// The number of this publication, from 1. It fences: what carries another is stale.
    pub attempt: u32,
    /// The model to run.
    pub model: ModelId,
    /// The kind of that model, which decides the kind of worker.
    pub kind: ModelKind,
    /// The task's own input.
    pub input: TaskInput,
    /// The limit of one run.
    #[serde(rename = "timeout_s", with = "seconds")]
    pub timeout: Duration,
    /// What the task declares that it needs.
    pub resources: Resources,
    /// Run it alone on its node: it was running when something died.
    #[serde(default, skip_serializing_if = "is_false")]
    pub solo: bool,
    /// Go on from here rather than from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The lock that this task holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<Fence>,
    /// When it was released.
    pub released_at: Timestamp,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A task's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskInput {
    /// Here.
    Inline(Value),
    /// In the object store, as JSON.
    Object(InputRef),
}

/// Where an input that is too large for a message lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRef {
    /// Its key in the object store.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
}

/// The state of a half-done task in the object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its key in the object store.
    pub key: String,
    /// The step that it was taken after.
    pub step: u32,
    /// Its size.
    pub size_bytes: u64,
}

/// An exclusive key and the number of the task's hold on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The key.
    pub key: String,
    /// Grows with each hold of the key; what carries a smaller one than was seen is stale.
    pub token: u64,
    /// How long the task may be worked on without word that its key is still kept ([`KeyLease`](super::KeyLease)),
    /// counted from when the message was taken.
    #[serde(rename = "lease_s", with = "seconds")]
    pub lease: Duration,
}
