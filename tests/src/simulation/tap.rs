//! Between an agent and its worker: sees what really runs, and kills or freezes the worker.

use std::sync::{Arc, Mutex, PoisonError};

use springtide_core::RunId;
use springtide_node_agent::worker::{
    LaunchError, Worker, WorkerEvent, WorkerLauncher, WorkerSide, WorkerSpec,
};
use springtide_worker_protocol::{Frame, FromWorker, Subject, ToWorker};
use tokio::sync::{Notify, watch};

use super::truth::{RunEnd, Seat, Truth};

/// Starts the workers of one agent, through the tap.
pub struct Tap {
    /// The real launcher.
    pub inner: Arc<dyn WorkerLauncher>,
    /// What the faults do to the workers.
    pub hands: Arc<Hands>,
    /// Whose workers they are.
    pub seat: Seat,
    /// Who sees it.
    pub truth: Arc<Truth>,
}

/// What faults do to the worker of an agent.
#[derive(Debug)]
pub struct Hands {
    kill: Notify,
    frozen: watch::Sender<bool>,
}

impl Default for Hands {
    fn default() -> Self {
        Self { kill: Notify::new(), frozen: watch::channel(false).0 }
    }
}

impl Hands {
    /// Kills the worker that runs, as the system's memory killer would.
    pub fn kill(&self) {
        self.kill.notify_waiters();
    }

    /// Whether the worker neither hears nor says anything.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

impl WorkerLauncher for Tap {
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError> {
        let inner = self.inner.launch(spec)?;
        let (outer, side) = Worker::pair(None);
        let tapped = Tapped {
            inner,
            hands: Arc::clone(&self.hands),
            seat: self.seat.clone(),
            truth: Arc::clone(&self.truth),
            active: Mutex::default(),
        };
        tokio::spawn(tapped.pass_on(side));
        Ok(outer)
    }
}

struct Tapped {
    inner: Worker,
    hands: Arc<Hands>,
    seat: Seat,
    truth: Arc<Truth>,
    active: Mutex<Vec<RunId>>,
}

impl Tapped {
    async fn pass_on(mut self, side: WorkerSide) {
        let WorkerSide { mut inbox, outbox, kill } = side;
        let mut frozen = self.hands.frozen.subscribe();
        let hands = Arc::clone(&self.hands);
        loop {
            // A frozen worker can still be killed.
            let moves = !*frozen.borrow_and_update();
            tokio::select! {
                biased;
                () = kill.cancelled() => break,
                () = hands.kill.notified() => self.inner.kill(),
                _ = frozen.changed() => {}
                Some(frame) = inbox.recv(), if moves => self.hear(frame),
                event = self.inner.next(), if moves => {
                    let Some(event) = event else { break };
                    let over = matches!(event, WorkerEvent::Exited(_));
                    self.say(&event);
                    if outbox.send(event).await.is_err() || over {
                        return;
                    }
                }
            }
        }
        // Killed by its agent, or dropped with it.
        self.inner.kill();
        self.all_die();
        while let Some(event) = self.inner.next().await {
            if let event @ WorkerEvent::Exited(_) = event {
                let _ = outbox.send(event).await;
                return;
            }
        }
    }

    fn hear(&self, frame: Frame<ToWorker>) {
        if let ToWorker::Run(batch) = &frame.message {
            for member in &batch.members {
                let (Ok(task), Ok(run)) = (member.task.parse(), member.run.parse()) else { continue };
                self.truth.run_begins(&self.seat, task, run);
                self.lock().push(run);
            }
        }
        let _ = self.inner.send(frame.message);
    }

    fn say(&self, event: &WorkerEvent) {
        let (run, end) = match event {
            WorkerEvent::Exited(_) => return self.all_die(),
            WorkerEvent::Frame(frame) => match &frame.message {
                FromWorker::Done(done) => (done.run.parse(), RunEnd::Done),
                FromWorker::Failed(failed) => match &failed.subject {
                    Subject::Run(run) => (run.parse(), RunEnd::Failed),
                    Subject::Model(_) => return,
                },
                _ => return,
            },
        };
        if let Ok(run) = run {
            self.lock().retain(|active| *active != run);
            self.truth.run_ends(run, end);
        }
    }

    fn all_die(&self) {
        for run in std::mem::take(&mut *self.lock()) {
            self.truth.run_ends(run, RunEnd::Died);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RunId>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
