//! Echo workers inside the agent's process, for simulations and tests: no thread, no clock but tokio's.

use std::fmt;
use std::sync::Arc;

use springtide_core::model::EchoCrash;
use springtide_worker_protocol::{Frame, FromWorker, WorkerKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::echo::{self, Crash};
use super::{Exit, LaunchError, Worker, WorkerEvent, WorkerLauncher, WorkerSide, WorkerSpec};

/// Starts echo workers as tasks.
#[derive(Clone)]
pub struct InProcessLauncher {
    crash_agent: Arc<dyn Fn() + Send + Sync>,
}

impl InProcessLauncher {
    /// `crash_agent` is what a task with `"crash": "agent"` does.
    pub fn new(crash_agent: impl Fn() + Send + Sync + 'static) -> Self {
        Self { crash_agent: Arc::new(crash_agent) }
    }
}

impl fmt::Debug for InProcessLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessLauncher").finish_non_exhaustive()
    }
}

impl WorkerLauncher for InProcessLauncher {
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError> {
        if spec.kind != WorkerKind::Echo {
            return Err(LaunchError {
                what: format!("the {spec}"),
                remedy: "only echo workers run inside the agent".to_owned(),
                source: None,
            });
        }
        let (worker, side) = Worker::pair(None);
        tokio::spawn(run(side, Arc::clone(&self.crash_agent)));
        Ok(worker)
    }
}

async fn run(side: WorkerSide, crash_agent: Arc<dyn Fn() + Send + Sync>) {
    let WorkerSide { inbox, outbox, kill } = side;
    let crashed = CancellationToken::new();
    let token = crashed.clone();
    let crash: Crash = Arc::new(move |what| match what {
        EchoCrash::Worker => token.cancel(),
        EchoCrash::Agent => crash_agent(),
    });
    let (answers, from) = mpsc::channel(16);
    let status = tokio::select! {
        biased;
        () = kill.cancelled() => "killed by signal 9 SIGKILL",
        () = crashed.cancelled() => "killed by signal 6 SIGABRT",
        ((), ()) = async { tokio::join!(echo::serve(inbox, answers, crash), forward(from, &outbox)) } => "exit code 0",
    };
    let code = status.ends_with("code 0").then_some(0);
    let exit = Exit { status: status.to_owned(), code, stderr_tail: String::new() };
    let _ = outbox.send(WorkerEvent::Exited(exit)).await;
}

async fn forward(mut from: mpsc::Receiver<FromWorker>, outbox: &mpsc::Sender<WorkerEvent>) {
    while let Some(message) = from.recv().await {
        let frame = Box::new(Frame { message, body: Vec::new() });
        if outbox.send(WorkerEvent::Frame(frame)).await.is_err() {
            return;
        }
    }
}
