//! What an agent says about itself, and what the control plane wants of it. Both are whole states, said again and again:
//! a lost one costs a heartbeat, nothing more.

use serde::{Deserialize, Serialize};

use super::V1;
use crate::id::{Incarnation, LaneName, ModelId, NodeId, RunId, TaskId};
use crate::lane::Device;
use crate::time::Timestamp;

/// The state of a node, every `heartbeat_interval` and whenever it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The message's version.
    pub v: V1,
    /// The node.
    pub node: NodeId,
    /// The start of its agent.
    pub incarnation: Incarnation,
    /// Grows by one with each heartbeat of an incarnation.
    pub sequence: u64,
    /// When it was said, by the node's clock.
    pub at: Timestamp,
    /// The pool that it belongs to, if an autoscaler started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What it does.
    pub condition: NodeCondition,
    /// The lane that it is made for.
    pub lane: LaneName,
    /// The lane whose queue it consumes now.
    pub consuming: Option<LaneName>,
    /// How many tasks it takes at once: `max_concurrent_tasks`.
    pub slots: u32,
    /// Deliveries that it holds and has not started.
    pub held: Vec<(TaskId, u32)>,
    /// What it runs. A run stays listed until its terminal event is confirmed.
    pub runs: Vec<RunReport>,
    /// The machine.
    pub host: HostFigures,
    /// Its devices.
    pub devices: Vec<DeviceFigures>,
    /// Models that it has in its cache.
    pub models: Vec<ModelId>,
    /// The agent's version.
    pub version: String,
}

/// What a node does, as it sees it itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum NodeCondition {
    /// Takes tasks.
    Active,
    /// Takes no new task, and finishes or hands back what it has before the deadline.
    Draining {
        /// The deadline.
        until: Timestamp,
    },
    /// Drained: holds nothing, takes nothing.
    Empty,
    /// Takes no new task for a while: a threshold is passed, or its tasks keep failing.
    Paused {
        /// Why.
        reason: String,
    },
    /// Last words of an orderly end: what it still held has been handed back.
    Leaving,
}

/// One run on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The task.
    pub task: TaskId,
    /// The publication.
    pub attempt: u32,
    /// The run.
    pub run: RunId,
    /// How far it is, 0 to 1.
    pub progress: f64,
    /// How long it has run, in seconds.
    pub elapsed_s: f64,
}

/// Figures of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFigures {
    /// Use of all cores, 0 to 1.
    pub cpu: f64,
    /// Cores.
    pub cores: u32,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory.
    pub memory_total_bytes: u64,
}

/// Figures of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceFigures {
    /// `cpu`, `cuda:0`, …
    pub id: String,
    /// The kind.
    pub kind: Device,
    /// Its model, for example `NVIDIA L4`.
    pub name: String,
    /// Its use, 0 to 1.
    pub utilization: f64,
    /// Memory in use; 0 for a CPU.
    pub memory_used_bytes: u64,
    /// Memory; 0 for a CPU.
    pub memory_total_bytes: u64,
}

/// All that the control plane wants of a node, repeated until a heartbeat shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// The message's version.
    pub v: V1,
    /// The node.
    pub node: NodeId,
    /// The start of its agent that is meant; another ignores it.
    pub incarnation: Incarnation,
    /// The one queue that it shall consume.
    pub lane: LaneName,
    /// Whether it shall drain.
    pub drain: Option<Drain>,
    /// Runs that nobody wants; it stops them and says so.
    pub cancel: Vec<RunId>,
    /// Models that it should have in its cache.
    pub preload: Vec<ModelId>,
    /// Exclusive tasks whose keys are kept for it. Renews their leases, and says nothing of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<KeyLease>,
}

/// The key of an exclusive task is kept for the node for one lease, counted from when it said a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLease {
    /// The task.
    pub task: TaskId,
    /// The publication.
    pub attempt: u32,
    /// The sequence number of the heartbeat, which listed the task.
    pub heartbeat: u64,
}

/// An order to drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// What is not done by then is checkpointed and handed back.
    pub until: Timestamp,
    /// Why, for people.
    pub reason: String,
}
