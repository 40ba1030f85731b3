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

pub use event::{EventMessage, Output, ReturnReason, TaskEvent, TaskEventKind, Timings};
pub use heartbeat::{
    DesiredState, DeviceFigures, Drain, Heartbeat, HostFigures, KeyLease, NodeCondition, RunReport,
};
pub use task_message::{Checkpoint, Fence, InputRef, TaskInput, TaskMessage};

/// Inputs up to this size travel in the message; larger ones by reference through the object store.
pub const MAX_INLINE_BYTES: usize = 64 * 1024;

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
