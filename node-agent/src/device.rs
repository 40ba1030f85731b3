//! A device: what waits for it, what runs on it, and the worker that holds it.
//!
//! ```text
//! submit ─► staging: groups of one batch ─► `Started` confirmed ─► flight: in the worker ─► End
//!                    ▲ run again alone, when a whole batch failed ─────┘
//! ```
//!
//! While one batch runs, the next is staged: its starts are said and confirmed, so that it goes to the worker the moment
//! the device is free. What happens to a result (upload, report, ack) is none of the device's business.

mod actor;
mod flight;
mod keeper;
mod staging;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use springtide_core::lane::Device;
use springtide_core::model::ModelKind;
use springtide_core::wire::{TaskMessage, Timings};
use springtide_core::{LaneName, ModelId, RunId, TaskError};
use springtide_worker_protocol::{BatchKey, Kind, Output, WorkerKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::ledger::Key;
use crate::models::Lease;
use crate::prepare::{Prepared, Resume};
use crate::stopper::Stop;
use crate::worker::WorkerSpec;

pub(crate) use actor::Actor;

/// No run is given more time, whatever its message says: a time limit has to be a time that can be reckoned with.
const LONGEST_RUN: Duration = Duration::from_hours(366 * 24);

/// A task that is ready for a device.
pub(crate) struct Job {
    pub(crate) key: Key,
    pub(crate) run: RunId,
    pub(crate) lane: LaneName,
    pub(crate) model_id: ModelId,
    /// Nothing for `echo`.
    pub(crate) model: Option<Lease>,
    pub(crate) input: Value,
    pub(crate) fence: Option<u64>,
    pub(crate) timeout: Duration,
    /// Device memory that it declares.
    pub(crate) memory_bytes: u64,
    /// With which it may share a batch, and how much of one it takes up.
    pub(crate) batch: Option<(BatchKey, u64)>,
    /// Whether a worker can go on with it from a checkpoint.
    pub(crate) resumable: bool,
    /// The checkpoint that it goes on from.
    pub(crate) resume: Option<Resume>,
    pub(crate) queued: Instant,
    pub(crate) fetched_in: Duration,
    outcome: oneshot::Sender<Outcome>,
    checkpoints: watch::Sender<Option<Saved>>,
}

/// What whoever hands a job in hears of it.
pub(crate) struct Hearing {
    pub(crate) outcome: oneshot::Receiver<Outcome>,
    /// Its newest checkpoint. Closed at its end; empty then if nobody goes on from there.
    pub(crate) checkpoints: watch::Receiver<Option<Saved>>,
}

/// The state of a run after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) step: u32,
    pub(crate) bytes: Bytes,
}

/// How a job ended, and on what.
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) device: Device,
}

/// How a job ended.
pub(crate) enum End {
    Done(Done),
    Failed {
        run: RunId,
        error: TaskError,
        timings: Timings,
    },
    /// With its run, if that was said to have started.
    Returned {
        run: Option<RunId>,
        stop: Stop,
    },
}

impl End {
    /// Its name in logs; of what is handed back, why.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Failed { .. } => "failed",
            Self::Returned { stop, .. } => stop.reason.as_str(),
        }
    }
}

/// The good end of a job.
pub(crate) struct Done {
    pub(crate) run: RunId,
    pub(crate) outputs: Vec<Output>,
    pub(crate) body: Vec<u8>,
    pub(crate) timings: Timings,
}

impl Job {
    pub(crate) fn new(
        key: Key,
        run: RunId,
        lane: &LaneName,
        message: &TaskMessage,
        prepared: Prepared,
    ) -> (Self, Hearing) {
        let kind = match message.kind {
            ModelKind::Torchscript => Kind::Torchscript,
            ModelKind::TextToImage => Kind::TextToImage,
            ModelKind::Echo => Kind::Other,
        };
        let batched = prepared.model.as_ref().is_some_and(|model| model.manifest.batching.max > 1);
        // A suspect shares nothing, and what goes on from a checkpoint is at a step of its own.
        let alone = message.solo || prepared.resume.is_some();
        let batch = if batched && !alone { BatchKey::of(kind, &prepared.input) } else { None };
        let (outcome, ended) = oneshot::channel();
        let (checkpoints, saved) = watch::channel(None);
        let job = Self {
            key,
            run,
            lane: lane.clone(),
            model_id: message.model.clone(),
            model: prepared.model,
            input: prepared.input,
            fence: message.exclusive.as_ref().map(|fence| fence.token),
            timeout: message.timeout.min(LONGEST_RUN),
            memory_bytes: message.resources.gpu_memory_bytes,
            batch,
            resumable: message.kind == ModelKind::TextToImage,
            resume: prepared.resume,
            queued: Instant::now(),
            fetched_in: prepared.fetched_in,
            outcome,
            checkpoints,
        };
        (job, Hearing { outcome: ended, checkpoints: saved })
    }

    /// It can be gone on with from here; what was saved before and not taken yet is forgotten.
    fn saved(&self, saved: Saved) {
        self.checkpoints.send_replace(Some(saved));
    }

    fn end(self, end: End, device: Device) {
        let goes_on = match &end {
            End::Done(_) => false,
            End::Failed { .. } => true,
            End::Returned { stop, .. } => stop.leaves_work(),
        };
        if !goes_on {
            self.checkpoints.send_replace(None);
        }
        // Nobody waits for it once the agent is cut off.
        let _ = self.outcome.send(Outcome { end, device });
    }
}

/// What a device is told.
pub(crate) enum Command {
    Run(Box<Job>),
    Stop(Key, Stop),
}

/// The way to one device.
#[derive(Debug)]
pub(crate) struct Handle {
    spec: WorkerSpec,
    commands: mpsc::Sender<Command>,
    /// Jobs that it has.
    jobs: Arc<AtomicUsize>,
}

impl Handle {
    pub(crate) async fn submit(&self, job: Job) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        // A device that is gone drops the job's sender, which tells the waiting side.
        let _ = self.commands.send(Command::Run(Box::new(job))).await;
    }

    pub(crate) async fn stop(&self, key: Key, stop: Stop) {
        let _ = self.commands.send(Command::Stop(key, stop)).await;
    }
}

/// All devices of a node; the last one runs `echo`.
#[derive(Debug)]
pub(crate) struct Devices(Vec<Handle>);

/// A device that nobody serves yet.
pub(crate) struct Unserved {
    pub(crate) spec: WorkerSpec,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) jobs: Arc<AtomicUsize>,
}

impl Devices {
    /// One for each of `torch`, and one for `echo`.
    pub(crate) fn new(torch: &[String], slots: usize) -> (Self, Vec<Unserved>) {
        let torch = torch.iter().map(|device| WorkerSpec { kind: WorkerKind::Torch, device: device.clone() });
        let echo = WorkerSpec { kind: WorkerKind::Echo, device: "cpu".to_owned() };
        let pair = |spec: WorkerSpec| {
            let (sender, commands) = mpsc::channel(slots * 2 + 8);
            let jobs = Arc::new(AtomicUsize::new(0));
            let handle = Handle { spec: spec.clone(), commands: sender, jobs: Arc::clone(&jobs) };
            (handle, Unserved { spec, commands, jobs })
        };
        let (handles, unserved) = torch.chain([echo]).map(pair).unzip();
        (Self(handles), unserved)
    }

    /// The device for a task: of those that will do, the one with the least to do. Or why there is none.
    pub(crate) fn pick(&self, message: &TaskMessage) -> Result<&Handle, String> {
        let wanted = message.resources.device;
        let will_do = |handle: &&Handle| match message.kind {
            ModelKind::Echo => handle.spec.kind == WorkerKind::Echo,
            _ => handle.spec.kind == WorkerKind::Torch && wanted.accepts(handle.spec.device_kind()),
        };
        let least_busy =
            self.0.iter().filter(will_do).min_by_key(|handle| handle.jobs.load(Ordering::Relaxed));
        least_busy.ok_or_else(|| format!("this node has no {} device", wanted.as_str()))
    }
}

#[cfg(test)]
mod tests;
