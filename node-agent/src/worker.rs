//! Workers, as the agent sees them: something that takes frames, answers with frames, and may end at any time.

mod echo;
mod in_process;
mod launcher;
mod process;
mod stderr;
mod stdio;

use std::fmt;

use springtide_core::lane::Device;
use springtide_worker_protocol::{Frame, FromWorker, ToWorker, WorkerKind};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use in_process::InProcessLauncher;
pub use launcher::{Network, ProcessLauncher, WorkerCommand, WorkerRule};
pub use stdio::echo_worker_main;

/// Which worker is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// What it runs.
    pub kind: WorkerKind,
    /// The device that it holds: `cpu`, `cuda:0`, …
    pub device: String,
}

impl WorkerSpec {
    /// The kind of its device.
    pub fn device_kind(&self) -> Device {
        if self.device.starts_with("cuda") { Device::Cuda } else { Device::Cpu }
    }
}

impl fmt::Display for WorkerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            WorkerKind::Torch => "torch",
            WorkerKind::Echo => "echo",
        };
        write!(f, "{kind} worker on {}", self.device)
    }
}

/// Starts workers: [`ProcessLauncher`] as child processes, [`InProcessLauncher`] inside this one.
pub trait WorkerLauncher: Send + Sync {
    /// Starts a worker. That it works is only known from its `ready` frame. Must be called inside a tokio runtime.
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError>;
}

/// A worker could not be started at all.
#[derive(Debug, thiserror::Error)]
#[error("{what} can't be started; {remedy}")]
pub struct LaunchError {
    /// Which worker, as which program.
    pub what: String,
    /// What to do.
    pub remedy: String,
    /// Why, where the system said so.
    #[source]
    pub source: Option<std::io::Error>,
}

/// A worker that was started. Dropped, it is killed.
#[derive(Debug)]
pub struct Worker {
    outbox: mpsc::Sender<Frame<ToWorker>>,
    inbox: mpsc::Receiver<WorkerEvent>,
    kill: CancellationToken,
    _guard: DropGuard,
    /// Its process id, if it is a process.
    pub pid: Option<u32>,
}

/// What an agent hears from a worker.
#[derive(Debug)]
pub enum WorkerEvent {
    /// A frame.
    Frame(Box<Frame<FromWorker>>),
    /// Its end. The last event.
    Exited(Exit),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// For people: `exit status: 1`, `signal: 9 (SIGKILL)`, or what it did wrong.
    pub status: String,
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The last lines that it wrote to standard error.
    pub stderr_tail: String,
}

/// The worker's end of a [`Worker`], for launchers.
#[derive(Debug)]
pub struct WorkerSide {
    /// What the agent says.
    pub inbox: mpsc::Receiver<Frame<ToWorker>>,
    /// What the agent hears; [`WorkerEvent::Exited`] is the last.
    pub outbox: mpsc::Sender<WorkerEvent>,
    /// Cancelled when it is to end at once.
    pub kill: CancellationToken,
}

/// Frames on their way to a worker. There is one batch for each of its runs, and a cancel; more than this means that it
/// does not read.
const OUTBOX: usize = 4096;
/// Frames from a worker that wait for the agent. A full one holds the worker up.
const INBOX: usize = 256;

impl Worker {
    /// Both ends of a new worker. What serves the other end is up to the launcher.
    pub fn pair(pid: Option<u32>) -> (Self, WorkerSide) {
        let (outbox, worker_inbox) = mpsc::channel(OUTBOX);
        let (worker_outbox, inbox) = mpsc::channel(INBOX);
        let kill = CancellationToken::new();
        let guard = kill.clone().drop_guard();
        let side = WorkerSide { inbox: worker_inbox, outbox: worker_outbox, kill: kill.clone() };
        (Self { outbox, inbox, kill, _guard: guard, pid }, side)
    }

    /// Sends a message, without waiting. `false`: the worker has ended or does not read.
    #[must_use]
    pub fn send(&self, message: ToWorker) -> bool {
        self.send_frame(Frame { message, body: Vec::new() })
    }

    /// The same, with a body.
    #[must_use]
    pub fn send_frame(&self, frame: Frame<ToWorker>) -> bool {
        self.outbox.try_send(frame).is_ok()
    }

    /// The next event; nothing after [`WorkerEvent::Exited`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<WorkerEvent> {
        self.inbox.recv().await
    }

    /// Ends it at once; [`WorkerEvent::Exited`] follows.
    pub fn kill(&self) {
        self.kill.cancel();
    }
}

impl Exit {
    /// Status and last words, for people.
    pub fn describe(&self) -> String {
        if self.stderr_tail.is_empty() {
            self.status.clone()
        } else {
            format!("{}; it last wrote: {}", self.status, self.stderr_tail)
        }
    }

    /// The system's loader could not bring the program up: a library is missing.
    pub(crate) fn is_missing_library(&self) -> bool {
        self.code == Some(127)
    }
}
