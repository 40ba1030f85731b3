//! The whole cluster in one snapshot: what the autoscaler plans from.

use serde::{Deserialize, Serialize};

use super::{LaunchView, NodeView};
use crate::id::{LaneName, ModelId};
use crate::lane::{Device, DeviceRequest};
use crate::priority::Priority;
use crate::time::Timestamp;

/// One consistent snapshot of work and nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClusterView {
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The lanes.
    pub lanes: Vec<LaneView>,
    /// Work by lane, priority, device and model. Waiting work stands under the smallest lane that fits.
    pub work: Vec<WorkView>,
    /// All that was ever accepted, by lane and priority: what arrived between two snapshots is the difference.
    #[serde(default)]
    pub arrivals: Vec<ArrivalsView>,
    /// Work with a deadline that is not yet running, counted in `work` as well; by lane, the earliest first.
    #[serde(default)]
    pub deadlines: Vec<DueView>,
    /// The nodes that are not gone.
    pub nodes: Vec<NodeView>,
    /// Launches that are open.
    pub launches: Vec<LaunchView>,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LaneView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: LaneName,
    /// The kind of device that its machines have.
    pub device: Device,
    /// The GPU memory of its devices.
    pub gpu_memory_bytes: u64,
    /// Live nodes that are made for it.
    pub nodes: u32,
    /// Their slots.
    pub slots: u32,
}

/// Work of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkView {
    /// The lane.
    #[schema(value_type = String)]
    pub lane: LaneName,
    /// The device that is asked for.
    pub device: DeviceRequest,
    /// The priority.
    pub priority: Priority,
    /// The model.
    #[schema(value_type = String)]
    pub model: ModelId,
    /// Tasks in the store only.
    pub waiting: Predicted,
    /// Tasks in a queue or held by a node.
    pub released: Predicted,
    /// Tasks on a node.
    pub running: Predicted,
    /// When the oldest waiting task's job was accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_waiting: Option<Timestamp>,
}

/// All that was ever accepted of one priority, as counters. One that went down was reset, and counts from there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ArrivalsView {
    /// The smallest lane that fits.
    #[schema(value_type = String)]
    pub lane: LaneName,
    /// The priority.
    pub priority: Priority,
    /// Tasks.
    pub tasks: u64,
    /// Their seconds, as they were predicted when they were accepted.
    pub predicted_s: f64,
}

/// Work that should be done by a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DueView {
    /// The smallest lane that fits.
    #[schema(value_type = String)]
    pub lane: LaneName,
    /// The deadline; of jobs that were taken together, the earliest.
    #[schema(value_type = String, format = DateTime)]
    pub by: Timestamp,
    /// What is not yet running of it.
    pub load: Predicted,
}

/// A number of tasks and how long they will run, all together on one device, as a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Predicted {
    /// How many tasks.
    pub tasks: u64,
    /// Mean of the sum of their seconds.
    pub mean_s: f64,
    /// Variance of that sum, in s².
    pub variance_s2: f64,
    /// 90th percentile of that sum.
    pub p90_s: f64,
}

/// The 90th percentile of the standard normal distribution.
const Z90: f64 = 1.281_551_565_544_6;

impl Predicted {
    /// This and independent other work; its percentile as a normal distribution has it.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        if other.tasks == 0 {
            return *self;
        }
        let (mean_s, variance_s2) = (self.mean_s + other.mean_s, self.variance_s2 + other.variance_s2);
        Self {
            tasks: self.tasks + other.tasks,
            mean_s,
            variance_s2,
            p90_s: mean_s + Z90 * variance_s2.max(0.0).sqrt(),
        }
    }
}
