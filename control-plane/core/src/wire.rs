//! What processes say to each other over the broker: JSON, versioned, pinned by snapshot tests.
//!
//! | message | from → to | where it travels |
//! | --- | --- | --- |
//! | [`TaskMessage`] | control plane → agent | a lane's queue |
//! | [`EventMessage`] | agents, leader → leader | `springtide.events` |
//! | [`Heartbeat`] | agent → every control plane | `springtide.heartbeats` |
//! | [`DesiredState`] | leader → agent | `springtide.nodes` |
//!
//! A message that can't be read is never dropped and never fatal: whoever reads one publishes it to `springtide.dead`.

mod event;
mod heartbeat;
mod task_message;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use event::{EventMessage, Output, ReturnReason, TaskEvent, TaskEventKind, Timings};
pub use heartbeat::{
    DesiredState, DeviceFigures, Drain, Heartbeat, HostFigures, KeyLease, NodeCondition, RunReport,
};
pub use task_message::{Checkpoint, Fence, InputRef, TaskInput, TaskMessage};

/// Inputs up to this size travel in the message; larger ones by reference through the object store.
pub const MAX_INLINE_BYTES: usize = 64 * 1024;

/// How deep arrays and objects may stand in each other in what travels in a message. Messages and rows put a few more
/// around it, and JSON is read to a depth of 128: what is written deeper is never read.
pub const MAX_INLINE_DEPTH: usize = 64;

/// Whether arrays and objects stand in each other deeper than [`MAX_INLINE_DEPTH`].
pub fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, MAX_INLINE_DEPTH)
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => true,
        Value::Array(elements) => elements.iter().any(|inner| is_deeper(inner, depth - 1)),
        Value::Object(members) => members.values().any(|inner| is_deeper(inner, depth - 1)),
        _ => false,
    }
}

/// The version of a message: `"v": 1`. Any other is unreadable, and so kept rather than misread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => {
                Err(serde::de::Error::custom(format!("version {other} is not known here; this side reads 1")))
            }
        }
    }
}
