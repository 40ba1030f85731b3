//! Tasks on their way: released, reported on, corrected.

use std::time::Duration;

use super::lock::{Claim, WantedKey};
use springtide_core::job::JobStatus;
use springtide_core::lane::{Device, DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::task::{Ignored, Loss};
use springtide_core::wire::{Checkpoint, TaskInput};
use springtide_core::{Incarnation, JobId, LaneName, ModelId, NodeId, Priority, RunId, TaskId, Timestamp};

/// A release in the same commit as a submission.
#[derive(Clone, Debug)]
pub struct ReleaseNow {
    /// The lane.
    pub lane: LaneName,
    /// The lane's limit, as in [`LaneRoom::limit`].
    pub limit: u32,
}

/// What may be released now.
#[derive(Clone, Debug)]
pub struct ReleaseRequest {
    /// The time.
    pub now: Timestamp,
    /// The lanes that have live nodes, smallest first.
    pub lanes: Vec<LaneRoom>,
    /// At most this many in one transaction; the caller comes again.
    pub most: u32,
    /// Exclusive keys that the caller has taken from their guard. A task that needs another one waits.
    pub claims: Vec<Claim>,
}

/// What was released.
#[derive(Clone, Debug, Default)]
pub struct Released {
    /// The tasks, for their messages.
    pub tasks: Vec<ReleasedTask>,
    /// Keys that would let more tasks go now: the caller takes them from their guard and comes again.
    pub wanted: Vec<WantedKey>,
}

/// The room in a lane's queue.
#[derive(Clone, Debug)]
pub struct LaneRoom {
    /// The lane.
    pub lane: LaneName,
    /// The kind of device that its machines have.
    pub device: Device,
    /// The GPU memory of its devices.
    pub gpu_memory_bytes: u64,
    /// For each priority, counting only tasks of the same or a higher one, no more than this are Released here.
    pub limit: u32,
}

/// A task that was released, with all that its message needs.
#[derive(Clone, Debug)]
pub struct ReleasedTask {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: u32,
    /// Its lane.
    pub lane: LaneName,
    /// When its job was accepted: for the priority of the message.
    pub accepted_at: Timestamp,
    /// When it was released.
    pub released_at: Timestamp,
    /// Its job's priority.
    pub priority: Priority,
    /// Its model.
    pub model: ModelId,
    /// The model's kind.
    pub kind: ModelKind,
    /// Its input.
    pub input: TaskInput,
    /// The limit of its run.
    pub timeout: Duration,
    /// What it needs.
    pub resources: Resources,
    /// To be run alone.
    pub solo: bool,
    /// To go on from.
    pub checkpoint: Option<Checkpoint>,
    /// The exclusive key that it has.
    pub exclusive: Option<Claim>,
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// It counted.
    Counted,
    /// It changed nothing.
    Ignored(Ignored),
    /// There is no such task.
    Unknown,
}

/// What became of a batch of events.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// For each event, in order.
    pub outcomes: Vec<EventOutcome>,
    /// Jobs whose row changed, with their new version and status.
    pub changed: Vec<(JobId, u64, JobStatus)>,
    /// Objects that nobody needs any more.
    pub discard: Vec<String>,
    /// Tasks that succeeded, for the forecast.
    pub finished: Vec<FinishedRun>,
    /// Whether a key's task is over, so that the key can be given back to its guard.
    pub keys_freed: bool,
    /// How long each task that started had waited since its job was accepted, by priority.
    pub waits: Vec<(Priority, Duration)>,
}

/// A run that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedRun {
    /// The model.
    pub model: ModelId,
    /// The kind of device.
    pub device: Device,
    /// The size of the task.
    pub units: f64,
    /// How long the device worked for it: its share of its batch.
    pub run: Duration,
    /// How long its model took to load, where it had to.
    pub load: Duration,
}

/// A task that a node has, or should have.
#[derive(Clone, Debug, PartialEq)]
pub struct InFlight {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: u32,
    /// Its lane.
    pub lane: LaneName,
    /// When it was released.
    pub released_at: Timestamp,
    /// Whether it runs alone.
    pub solo: bool,
    /// Where it runs: node, incarnation, run, since when; `None`: it is Released.
    pub running: Option<(NodeId, Incarnation, RunId, Timestamp)>,
}

/// A correction.
#[derive(Clone, Debug, PartialEq)]
pub enum ReconcileAction {
    /// The task is not where it should be: back to waiting.
    Evict {
        /// The task.
        task: TaskId,
        /// The attempt that is meant; another is left alone.
        attempt: u32,
        /// Whether the task may be the cause.
        loss: Loss,
        /// What happened, for people.
        message: String,
    },
    /// What became of its publication is not known: a new attempt, in the same lane. An exclusive task is left alone: the
    /// earlier publication may be running under its key.
    Republish {
        /// The task.
        task: TaskId,
        /// The attempt that is meant; another is left alone.
        attempt: u32,
    },
}

/// What became of corrections.
#[derive(Clone, Debug, Default)]
pub struct Reconciliation {
    /// Jobs whose row changed, with their new version and status.
    pub changed: Vec<(JobId, u64, JobStatus)>,
    /// New attempts to publish.
    pub republished: Vec<ReleasedTask>,
    /// Objects that nobody needs any more.
    pub discard: Vec<String>,
}

/// What became of a cancellation.
#[derive(Clone, Debug)]
pub struct Cancelled {
    /// The job's version now.
    pub version: u64,
    /// Runs that are to be stopped.
    pub stop: Vec<StopRun>,
    /// Objects that nobody needs any more.
    pub discard: Vec<String>,
}

/// A run that nobody wants any more.
#[derive(Clone, Debug, PartialEq)]
pub struct StopRun {
    /// Where it is.
    pub node: NodeId,
    /// The start of that node's agent.
    pub incarnation: Incarnation,
    /// The run.
    pub run: RunId,
}

/// Tasks of one kind of work, summed.
#[derive(Clone, Debug, PartialEq)]
pub struct BacklogRow {
    /// Of waiting tasks: the smallest lane that fits. Of others: the lane that they are in.
    pub lane: LaneName,
    /// The device that they ask for.
    pub device: DeviceRequest,
    /// Their priority.
    pub priority: Priority,
    /// Their model.
    pub model: ModelId,
    /// Tasks in the store only, and the sum of their sizes and of the squares of their sizes.
    pub waiting: Sum,
    /// Tasks in the queue or held by a node.
    pub released: Sum,
    /// Tasks on a node.
    pub running: Sum,
    /// When the oldest waiting task's job was accepted.
    pub oldest_waiting: Option<Timestamp>,
}

/// All that was ever accepted of one priority, as counters.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrivalsRow {
    /// The smallest lane that fits.
    pub lane: LaneName,
    /// The priority.
    pub priority: Priority,
    /// Tasks.
    pub tasks: u64,
    /// Their seconds, as they were predicted when they were accepted.
    pub seconds: f64,
}

/// Tasks that are not yet running, and should be done by a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct DueRow {
    /// The deadline.
    pub by: Timestamp,
    /// The smallest lane that fits.
    pub lane: LaneName,
    /// The device that they ask for.
    pub device: DeviceRequest,
    /// Their model.
    pub model: ModelId,
    /// How many, and their sizes.
    pub load: Sum,
}

/// A number of tasks and their sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Σ units.
    pub units: f64,
    /// Σ units².
    pub units_squared: f64,
}

impl Sum {
    /// So many tasks of this size each.
    pub fn of(count: u64, units: f64) -> Self {
        let number = count as f64;
        Self { count, units: number * units, units_squared: number * units * units }
    }
}
