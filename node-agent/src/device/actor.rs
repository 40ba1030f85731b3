//! The device's loop: one thing happens, then everything that has become possible is done.

mod answers;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use springtide_core::ModelId;
use springtide_core::wire::{ReturnReason, TaskEventKind};
use springtide_worker_protocol::{Batch, ByteRange, Failed, Frame, Member, ToWorker};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::flight::Flight;
use super::keeper::Keeper;
use super::staging::{Company, Removed, Staging};
use super::{Command, Job, Unserved};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::ledger::Key;
use crate::node::Node;
use crate::stopper::Stop;
use crate::worker::{WorkerLauncher, WorkerSpec};

/// How often free memory is looked at while a job waits for it.
const MEMORY_CHECK: Duration = Duration::from_secs(1);
/// The most starts that are said ahead of a device that runs many batches at once.
const LOOKAHEAD: usize = 1;

/// Serves one device.
pub(crate) struct Actor {
    node: Arc<Node>,
    spec: WorkerSpec,
    commands: mpsc::Receiver<Command>,
    jobs: Arc<AtomicUsize>,
    staging: Staging,
    flight: Flight<Failed>,
    loading: Option<Loading>,
    keeper: Keeper,
    /// Starts that are being said.
    confirms: FuturesUnordered<BoxFuture<'static, Key>>,
    unfit: Backoff,
    pid: Option<u32>,
}

/// A model on its way into the worker, and the batch that waits for it.
struct Loading {
    model: ModelId,
    jobs: Vec<Job>,
    since: Instant,
    deadline: Instant,
}

impl Actor {
    pub(crate) fn new(node: Arc<Node>, unserved: Unserved, launcher: Arc<dyn WorkerLauncher>) -> Self {
        let Unserved { spec, commands, jobs } = unserved;
        let config = &node.settings.node;
        let keeper = Keeper::new(spec.clone(), launcher, config.worker_start_timeout, Instant::now());
        let unfit = Backoff::new(config.pause_min, config.pause_max);
        Self {
            node,
            spec,
            commands,
            jobs,
            staging: Staging::default(),
            flight: Flight::default(),
            loading: None,
            keeper,
            confirms: FuturesUnordered::new(),
            unfit,
            pid: None,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let next = self.advance();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                Some(key) = self.confirms.next() => {
                    self.on_confirmed(key);
                    // Those that were confirmed together go together.
                    while let Some(Some(key)) = self.confirms.next().now_or_never() {
                        self.on_confirmed(key);
                    }
                }
                event = self.keeper.next() => self.on_event(event),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Does all that can be done now. When there may be more to do, if nothing happens before.
    fn advance(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.enforce(now);
        if !self.is_idle()
            && let Err(unfit) = self.keeper.ensure(now)
        {
            self.give_up(&unfit, now);
        }
        let company =
            if self.node.state().ledger.more_may_come() { Company::MayCome } else { Company::Complete };
        self.stage(now);
        while self.has_room() {
            let Some(jobs) = self.staging.take(company, now) else { break };
            self.send(jobs, now);
            self.stage(now);
        }
        self.tell_pid();
        let memory = (self.staging.is_waiting() && self.keeper.concurrency() > 0).then(|| now + MEMORY_CHECK);
        let go = if self.has_room() { self.staging.next_at(company, now) } else { None };
        let wanted = !self.is_idle();
        let loading = self.loading.as_ref().map(|loading| loading.deadline);
        [self.flight.next_at(), self.keeper.next_at(wanted), loading, memory, go].into_iter().flatten().min()
    }

    /// The probe has to know which processes are the node's own.
    fn tell_pid(&mut self) {
        let pid = self.keeper.pid();
        if pid != self.pid {
            let mut state = self.node.state();
            state.workers.retain(|known| Some(*known) != self.pid);
            state.workers.extend(pid);
            self.pid = pid;
        }
    }

    fn is_idle(&self) -> bool {
        self.staging.is_empty() && self.flight.is_empty() && self.loading.is_none()
    }

    fn in_use(&self) -> usize {
        self.flight.batches() + usize::from(self.loading.is_some())
    }

    fn has_room(&self) -> bool {
        self.loading.is_none() && self.in_use() < self.keeper.concurrency()
    }

    /// Time limits.
    fn enforce(&mut self, now: Instant) {
        self.keeper.check_start(now);
        let grace = self.node.settings.node.cancel_grace;
        for run in self.flight.overdue(now, now + grace) {
            tracing::info!(%run, "the run takes too long; cancelling it");
            self.tell(ToWorker::Cancel { run: run.to_string(), checkpoint: false }, now);
        }
        if self.flight.must_kill(now) {
            let why = format!("a run had not stopped {} s after it was cancelled", grace.as_secs_f64());
            self.keeper.kill(why, now);
        }
        if self.loading.as_ref().is_some_and(|loading| loading.deadline <= now) {
            let limit = self.node.settings.node.load_timeout.as_secs_f64();
            self.keeper.kill(format!("a model was not loaded after {limit} s (node.load_timeout)"), now);
            // Its end tells the batch; do not look here again.
            if let Some(loading) = &mut self.loading {
                loading.deadline = now + self.node.settings.node.load_timeout;
            }
        }
    }

    /// Says the starts of as many as the device takes, and of the next batch.
    fn stage(&mut self, now: Instant) {
        let concurrency = self.keeper.concurrency();
        if concurrency == 0 || !self.staging.is_waiting() {
            return;
        }
        let room = (concurrency + LOOKAHEAD).saturating_sub(self.in_use() + self.staging.groups());
        let free = self.free_memory();
        let fits = |job: &Job| free.is_none_or(|free| job.memory_bytes <= free);
        let device = self.spec.device_kind();
        let mut starts = Vec::new();
        for job in self.staging.stage(room, fits) {
            starts.push((job.key, job.run, job.lane.clone()));
        }
        if starts.is_empty() {
            return;
        }
        {
            let mut state = self.node.state();
            for (key, run, _) in &starts {
                state.ledger.start(*key, *run, now);
            }
        }
        for (key, run, lane) in starts {
            let node = Arc::clone(&self.node);
            let said = async move {
                // `false` only when the agent ends, and then this loop has ended too.
                node.report(key, TaskEventKind::Started { run, lane, device }).await;
                key
            };
            self.confirms.push(said.boxed());
        }
    }

    /// Device memory that others do not use, where it is known.
    fn free_memory(&self) -> Option<u64> {
        let state = self.node.state();
        let gpu = state.figures.gpus.iter().find(|gpu| gpu.figures.id == self.spec.device)?;
        Some(gpu.figures.memory_total_bytes.saturating_sub(gpu.foreign_memory_bytes))
            .filter(|_| gpu.figures.memory_total_bytes > 0)
    }

    /// A batch goes to the worker, or waits for its model to be loaded there.
    fn send(&mut self, jobs: Vec<Job>, now: Instant) {
        let Some((model_id, lease)) = jobs.first().map(|job| (job.model_id.clone(), job.model.clone()))
        else {
            return;
        };
        let Some(lease) = lease.filter(|_| !self.keeper.use_model(&model_id)) else {
            self.run_batch(jobs, Duration::ZERO, now);
            return;
        };
        let declared = jobs.iter().map(|job| job.memory_bytes).max().unwrap_or(0);
        let foreign = self.foreign_memory();
        for model in self.keeper.make_room(self.node.settings.node.max_loaded_models, declared, foreign) {
            tracing::info!(%model, worker = %self.spec, "letting go of a model");
            self.tell(ToWorker::Unload { model: model.to_string() }, now);
        }
        let deadline = now + self.node.settings.node.load_timeout;
        self.tell(ToWorker::Load { model: model_id.to_string(), dir: lease.dir.clone() }, now);
        self.loading = Some(Loading { model: model_id, jobs, since: now, deadline });
    }

    fn foreign_memory(&self) -> u64 {
        let state = self.node.state();
        let gpu = state.figures.gpus.iter().find(|gpu| gpu.figures.id == self.spec.device);
        gpu.map_or(0, |gpu| gpu.foreign_memory_bytes)
    }

    fn run_batch(&mut self, mut jobs: Vec<Job>, load: Duration, now: Instant) {
        let Some(model) = jobs.first().map(|job| job.model_id.to_string()) else { return };
        for Job { key, run, resume, .. } in &jobs {
            let from = resume.as_ref().map(|resume| resume.key.as_str());
            tracing::debug!(task = %key.task, attempt = key.attempt, %run, from, "run begins");
        }
        let mut body = Vec::new();
        let config = &self.node.settings.node;
        let members = jobs.iter_mut().map(|job| member(job, config, &mut body)).collect();
        let batch = self.flight.send(jobs, load, now);
        self.tell_frame(Frame { message: ToWorker::Run(Batch { batch, model, members }), body }, now);
    }

    fn tell(&mut self, message: ToWorker, now: Instant) {
        self.tell_frame(Frame { message, body: Vec::new() }, now);
    }

    fn tell_frame(&mut self, frame: Frame<ToWorker>, now: Instant) {
        if !self.keeper.send(frame) {
            self.keeper.kill("it does not read what it is told".to_owned(), now);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Run(job) => match self.never_fits(&job) {
                Some(stop) => self.hand_back(*job, None, stop),
                None => self.staging.push(*job),
            },
            Command::Stop(key, stop) => self.stop(key, stop),
        }
    }

    /// Why a job would wait for memory for ever.
    fn never_fits(&self, job: &Job) -> Option<Stop> {
        let state = self.node.state();
        let gpu = state.figures.gpus.iter().find(|gpu| gpu.figures.id == self.spec.device)?;
        let (all, declared) = (gpu.figures.memory_total_bytes, job.memory_bytes);
        let why = format!("{} has {all} bytes of memory, and the task declares {declared}", self.spec.device);
        (0 < all && all < declared).then(|| Stop::new(ReturnReason::NodeUnfit, why))
    }

    fn stop(&mut self, key: Key, stop: Stop) {
        let now = Instant::now();
        match self.staging.remove(key, &stop) {
            Removed::Waiting(job) => return self.hand_back(job, None, stop),
            Removed::Staged(job) => return self.hand_back_started(job, stop),
            Removed::Later => return,
            Removed::Absent => {}
        }
        if let Some(loading) = &mut self.loading
            && let Some(at) = loading.jobs.iter().position(|job| job.key == key)
        {
            let job = loading.jobs.remove(at);
            return self.hand_back_started(job, stop);
        }
        let kill_at = now + self.node.settings.node.cancel_grace;
        let leaves_work = stop.leaves_work();
        if let Some(job) = self.flight.stop(key, stop, kill_at) {
            let (run, checkpoint) = (job.run.to_string(), leaves_work && job.resumable);
            self.tell(ToWorker::Cancel { run, checkpoint }, now);
        }
    }

    fn on_confirmed(&mut self, key: Key) {
        if let Some((job, stop)) = self.staging.confirm(key) {
            self.hand_back_started(job, stop);
        }
    }
}

/// The input of what may have to be sent once more is kept. A checkpoint goes into the frame's body.
fn member(job: &mut Job, config: &Config, body: &mut Vec<u8>) -> Member {
    let input = if job.batch.is_some() { job.input.clone() } else { std::mem::take(&mut job.input) };
    let (steps, interval) = (config.checkpoint_every_steps, config.checkpoint_interval);
    Member {
        fence: job.fence,
        resume: job.resume.take().map(|resume| ByteRange::append(body, &resume.bytes)),
        checkpoint_every_steps: (job.resumable && steps > 0).then_some(steps),
        checkpoint_every_s: (job.resumable && !interval.is_zero()).then_some(interval.as_secs_f64()),
        ..Member::new(job.key.task.to_string(), job.run.to_string(), input)
    }
}
