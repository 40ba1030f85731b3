//! One worker after the other: started when there is work, watched until it is ready, replaced with back-off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use springtide_core::ModelId;
use springtide_worker_protocol::{Frame, Ready, ToWorker};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::worker::{Exit, Worker, WorkerEvent, WorkerLauncher, WorkerSpec};

/// Pauses before a worker that died is started again.
const RESTART: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// Starts in a row that fail before the node is told that it has no such worker.
const FAILED_STARTS: u32 = 3;

/// Keeps a device's worker.
pub(super) struct Keeper {
    spec: WorkerSpec,
    launcher: Arc<dyn WorkerLauncher>,
    start_timeout: Duration,
    life: Life,
    restart: Backoff,
    failed_starts: u32,
}

enum Life {
    /// None is there; none is started before the given time.
    Down {
        not_before: Instant,
    },
    /// It has not said that it is ready.
    Starting {
        worker: Worker,
        until: Instant,
    },
    Up {
        worker: Worker,
        ready: Ready,
        models: Loaded,
    },
    /// It was killed, and its end has not been heard of.
    Dying {
        worker: Worker,
        why: String,
        was: Readiness,
    },
}

/// Whether a worker ever said that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    NotReady,
    Ready,
}

/// What a worker has on its device: bytes, and when each was last used.
#[derive(Debug, Default)]
struct Loaded {
    models: BTreeMap<ModelId, (u64, u64)>,
    uses: u64,
}

/// A worker can't be had here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) String);

/// How a worker ended.
pub(super) struct Death {
    pub(super) exit: Exit,
    /// Why we killed it, if we did.
    pub(super) killed: Option<String>,
    pub(super) unfit: Option<Unfit>,
}

impl Keeper {
    pub(super) fn new(
        spec: WorkerSpec,
        launcher: Arc<dyn WorkerLauncher>,
        start_timeout: Duration,
        now: Instant,
    ) -> Self {
        let life = Life::Down { not_before: now };
        Self { spec, launcher, start_timeout, life, restart: RESTART, failed_starts: 0 }
    }

    /// The next event. Waits for ever while there is no worker. Cancel-safe.
    pub(super) async fn next(&mut self) -> WorkerEvent {
        match &mut self.life {
            Life::Down { .. } => std::future::pending().await,
            Life::Starting { worker, .. } | Life::Up { worker, .. } | Life::Dying { worker, .. } => {
                let gone = || Exit {
                    status: "its supervision ended".to_owned(),
                    code: None,
                    stderr_tail: String::new(),
                };
                worker.next().await.unwrap_or_else(|| WorkerEvent::Exited(gone()))
            }
        }
    }

    /// Starts a worker if there is none and the time has come.
    pub(super) fn ensure(&mut self, now: Instant) -> Result<(), Unfit> {
        let Life::Down { not_before } = self.life else { return Ok(()) };
        if now < not_before {
            return Ok(());
        }
        match self.launcher.launch(&self.spec) {
            Ok(worker) => {
                self.life = Life::Starting { worker, until: now + self.start_timeout };
                Ok(())
            }
            Err(error) => {
                let source = error.source.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
                Err(Unfit(format!("{error}{source}")))
            }
        }
    }

    /// Not before then.
    pub(super) fn wait_until(&mut self, not_before: Instant) {
        if let Life::Down { .. } = self.life {
            self.life = Life::Down { not_before };
        }
    }

    /// It says that it is ready.
    pub(super) fn ready(&mut self, ready: Ready, now: Instant) {
        let life = std::mem::replace(&mut self.life, Life::Down { not_before: now });
        self.life = match life {
            Life::Starting { worker, .. } => {
                self.failed_starts = 0;
                tracing::info!(worker = %self.spec, device = ready.device.name, versions = ?ready.versions, "worker ready");
                Life::Up { worker, ready, models: Loaded::default() }
            }
            other => other,
        };
    }

    /// Something worked: the next death begins a new series.
    pub(super) fn works(&mut self) {
        self.restart.reset();
    }

    /// Kills a worker that is stuck.
    pub(super) fn kill(&mut self, why: String, now: Instant) {
        let life = std::mem::replace(&mut self.life, Life::Down { not_before: now });
        self.life = match life {
            Life::Starting { worker, .. } => self.dying(worker, why, Readiness::NotReady),
            Life::Up { worker, .. } => self.dying(worker, why, Readiness::Ready),
            other => other,
        };
    }

    fn dying(&self, worker: Worker, why: String, was: Readiness) -> Life {
        tracing::warn!(worker = %self.spec, why, "killing the worker");
        worker.kill();
        Life::Dying { worker, why, was }
    }

    /// It has ended. When it may be started again follows from how often that happened.
    pub(super) fn ended(&mut self, exit: Exit, jitter: f64, now: Instant) -> Death {
        let life = std::mem::replace(&mut self.life, Life::Down { not_before: now });
        let (killed, was) = match life {
            Life::Dying { why, was, .. } => (Some(why), was),
            Life::Up { .. } => (None, Readiness::Ready),
            Life::Starting { .. } | Life::Down { .. } => (None, Readiness::NotReady),
        };
        // One that was killed for what it ran is replaced at once: it did not fail by itself.
        let pause = if killed.is_some() && was == Readiness::Ready {
            Duration::ZERO
        } else {
            self.restart.next(jitter)
        };
        self.life = Life::Down { not_before: now + pause };
        let mut unfit = None;
        if was == Readiness::NotReady {
            self.failed_starts += 1;
            if exit.is_missing_library() || self.failed_starts >= FAILED_STARTS {
                unfit = Some(self.unfit(killed.as_deref(), &exit));
            }
        }
        Death { exit, killed, unfit }
    }

    fn unfit(&self, killed: Option<&str>, exit: &Exit) -> Unfit {
        let remedy = if exit.is_missing_library() {
            "; if libtorch is missing, run `cargo xtask setup` and build the worker again"
        } else {
            ""
        };
        let how = killed.map_or_else(|| exit.describe(), |why| format!("{why}; {}", exit.describe()));
        Unfit(format!("the {} does not start: {how}{remedy}", self.spec))
    }

    /// Batches that it runs at once; 0 while it is not ready.
    pub(super) fn concurrency(&self) -> usize {
        match &self.life {
            Life::Up { ready, .. } => ready.concurrency.max(1) as usize,
            _ => 0,
        }
    }

    /// Says something to it. `false`: it does not read.
    #[must_use]
    pub(super) fn send(&self, frame: Frame<ToWorker>) -> bool {
        match &self.life {
            Life::Up { worker, .. } => worker.send_frame(frame),
            _ => true,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match &self.life {
            Life::Down { .. } => None,
            Life::Starting { worker, .. } | Life::Up { worker, .. } | Life::Dying { worker, .. } => {
                worker.pid
            }
        }
    }

    /// When something is due: a start, or the end of patience with one.
    pub(super) fn next_at(&self, wanted: bool) -> Option<Instant> {
        match &self.life {
            Life::Down { not_before } => wanted.then_some(*not_before),
            Life::Starting { until, .. } => Some(*until),
            Life::Up { .. } | Life::Dying { .. } => None,
        }
    }

    /// Kills a worker that has not become ready in time.
    pub(super) fn check_start(&mut self, now: Instant) {
        if let Life::Starting { until, .. } = &self.life
            && now >= *until
        {
            let limit = self.start_timeout.as_secs_f64();
            self.kill(format!("it was not ready after {limit} s (node.worker_start_timeout)"), now);
        }
    }

    /// Whether it has a model, which is about to be used.
    pub(super) fn use_model(&mut self, model: &ModelId) -> bool {
        let Life::Up { models, .. } = &mut self.life else { return false };
        models.uses += 1;
        let uses = models.uses;
        models.models.get_mut(model).map(|(_, used)| *used = uses).is_some()
    }

    /// It has loaded a model.
    pub(super) fn loaded(&mut self, model: ModelId, bytes: u64) {
        if let Life::Up { models, .. } = &mut self.life {
            models.uses += 1;
            models.models.insert(model, (bytes, models.uses));
        }
    }

    /// Models to let go of, the least recently used first, before one that needs `bytes` is loaded: so that at most
    /// `most` are there, and so that it fits where the device's memory is known.
    pub(super) fn make_room(&mut self, most: usize, bytes: u64, foreign_bytes: u64) -> Vec<ModelId> {
        let Life::Up { models, ready, .. } = &mut self.life else { return Vec::new() };
        let room = ready.device.memory_bytes.map(|all| all.saturating_sub(foreign_bytes));
        let mut gone = Vec::new();
        loop {
            // The worker says how much: nonsense must not overflow.
            let used = models.models.values().fold(0, |sum: u64, (bytes, _)| sum.saturating_add(*bytes));
            let tight = room.is_some_and(|room| used.saturating_add(bytes) > room);
            if models.models.len() < most && !tight {
                return gone;
            }
            let oldest = models.models.iter().min_by_key(|(_, (_, used))| *used);
            let Some(model) = oldest.map(|(model, _)| model.clone()) else { return gone };
            models.models.remove(&model);
            gone.push(model);
        }
    }
}
