//! The names and arguments of queues and exchanges, the same on every broker.

use springtide_core::LaneName;

/// The highest priority of a task message. High-class tasks have it; each class ages upwards.
pub const MAX_PRIORITY: u8 = 5;
/// The queue of task events; one consumer at a time.
pub const EVENTS: &str = "springtide.events";
/// The fanout exchange of heartbeats.
pub const HEARTBEATS: &str = "springtide.heartbeats";
/// The direct exchange of desired states; the routing key is the node's id.
pub const NODES: &str = "springtide.nodes";
/// The queue of messages that could not be read.
pub const DEAD: &str = "springtide.dead";

/// The queue of a lane.
pub fn lane_queue(lane: &LaneName) -> String {
    format!("springtide.lane.{lane}")
}
