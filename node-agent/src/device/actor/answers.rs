//! What a device makes of its worker's answers, and of its death.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use springtide_core::wire::{ReturnReason, Timings};
use springtide_core::{FailureClass, ModelId, RunId, TaskError};
use springtide_worker_protocol::{ByteRange, Class, Done as WorkerDone, Failed, Frame, FromWorker, Subject};
use tokio::time::Instant;

use super::super::flight::{Failure, StoppedRun, Why, Wreck};
use super::super::keeper::{Death, Unfit};
use super::super::staging::Removed;
use super::super::{Done, End, Job, Saved};
use super::Actor;
use crate::gate::PauseKind;
use crate::stopper::Stop;
use crate::worker::WorkerEvent;

impl Actor {
    pub(super) fn on_event(&mut self, event: WorkerEvent) {
        let now = Instant::now();
        match event {
            WorkerEvent::Frame(frame) => self.on_frame(*frame, now),
            WorkerEvent::Exited(exit) => {
                let jitter = self.node.random.unit();
                let death = self.keeper.ended(exit, jitter, now);
                self.on_death(death, now);
            }
        }
    }

    fn on_frame(&mut self, frame: Frame<FromWorker>, now: Instant) {
        let Frame { message, body } = frame;
        match message {
            FromWorker::Ready(ready) => {
                self.unfit.reset();
                self.keeper.ready(ready, now);
            }
            FromWorker::Loaded { model, load_s, memory_bytes } => {
                self.on_loaded(&model, load_s, memory_bytes, now);
            }
            FromWorker::Progress { run, fraction, step, steps } => {
                tracing::trace!(run, step, steps, "a step is done");
                if let Ok(run) = run.parse() {
                    self.node.progress(run, fraction);
                }
            }
            FromWorker::Checkpoint { run, step, body: range } => self.on_checkpoint(&run, step, range, body),
            FromWorker::Done(done) => self.on_done(done, body, now),
            FromWorker::Failed(Failed { subject: Subject::Model(model), class, message, .. }) => {
                self.on_load_failed(&model, class, &message, now);
            }
            FromWorker::Failed(failed) => self.on_failed(failed, now),
        }
    }

    fn on_loaded(&mut self, model: &str, load_s: f64, memory_bytes: u64, now: Instant) {
        tracing::info!(model, load_s, memory_bytes, worker = %self.spec, "model loaded");
        let Ok(model) = model.parse() else { return };
        self.keeper.loaded(ModelId::clone(&model), memory_bytes);
        if let Some(loading) = self.loading.take_if(|loading| loading.model == model) {
            let load = now.saturating_duration_since(loading.since);
            self.run_batch(loading.jobs, load, now);
        }
    }

    fn on_load_failed(&mut self, model: &str, class: Class, message: &str, now: Instant) {
        let Some(loading) = self.loading.take_if(|loading| loading.model.to_string() == model) else {
            return;
        };
        let load = now.saturating_duration_since(loading.since);
        for job in loading.jobs {
            let timings = Timings { load: load + job.fetched_in, ..Timings::default() };
            let error =
                TaskError::new(core_class(class), format!("model {model} could not be loaded: {message}"));
            self.fail(job, error, timings);
        }
    }

    fn on_checkpoint(&self, run: &str, step: u32, range: ByteRange, body: Vec<u8>) {
        let job = run.parse().ok().and_then(|run| self.flight.job(run));
        let Some(job) = job.filter(|job| job.resumable) else {
            tracing::debug!(run, "a checkpoint of nothing that runs");
            return;
        };
        let body = Bytes::from(body);
        let Some(bytes) = range.of(&body) else {
            tracing::warn!(run, step, "a checkpoint points outside of the worker's frame");
            return;
        };
        job.saved(Saved { step, bytes: body.slice_ref(bytes) });
    }

    fn on_done(&mut self, done: WorkerDone, body: Vec<u8>, now: Instant) {
        self.keeper.works();
        let Ok(run) = done.run.parse::<RunId>() else { return };
        let Some((job, timings, rest)) = self.flight.done(run, now) else {
            tracing::debug!(%run, "an answer to nothing that runs");
            return;
        };
        self.finish(job, End::Done(Done { run, outputs: done.outputs, body, timings }));
        self.settle(rest, now);
    }

    fn on_failed(&mut self, failed: Failed, now: Instant) {
        let Subject::Run(run) = &failed.subject else { return };
        let Ok(run) = run.parse::<RunId>() else { return };
        match self.flight.failed(run, failed, now) {
            None => tracing::debug!(%run, "an answer to nothing that runs"),
            Some(Ok(failure)) => self.settle(failure, now),
            Some(Err(StoppedRun { job, why, timings, rest })) => {
                self.stopped(job, why, timings);
                self.settle(rest, now);
            }
        }
    }

    /// A batch has answered: its failures are real, or it runs again, in parts.
    fn settle(&mut self, failure: Failure<Failed>, now: Instant) {
        match failure {
            Failure::Later => {}
            Failure::Each(failed) => {
                for (job, timings, failed) in failed {
                    self.fail(job, task_error(&failed), timings);
                }
            }
            Failure::Whole(failed) => {
                let out_of_memory = failed.iter().all(|(_, failed)| failed.out_of_memory);
                tracing::info!(
                    members = failed.len(),
                    out_of_memory,
                    "a batch failed as a whole; it runs again in parts"
                );
                let jobs: Vec<Job> = failed.into_iter().map(|(job, _)| job).collect();
                self.staging.push_front(parts(jobs, out_of_memory), now);
            }
        }
    }

    fn on_death(&mut self, death: Death, now: Instant) {
        let Death { exit, killed, unfit } = death;
        let Wreck { running, failed } = self.flight.clear(now);
        let what = match &killed {
            Some(why) => format!("the {} was killed: {why}", self.spec),
            None => format!("the {} died: {}", self.spec, exit.describe()),
        };
        if killed.is_none() && (!running.is_empty() || self.loading.is_some() || unfit.is_some()) {
            tracing::warn!(runs = running.len(), "{what}");
        }
        for (job, timings, failed) in failed {
            self.fail(job, task_error(&failed), timings);
        }
        // One death, one failure: a task that kills its worker must not make the node look broken by its neighbours.
        let ran = running.iter().filter(|(_, _, why)| why.is_none()).map(|(job, ..)| job);
        let victim = ran.chain(self.loading.iter().flat_map(|loading| &loading.jobs)).next();
        if let Some(task) = victim.filter(|_| killed.is_none()).map(|job| job.key.task) {
            self.node.blame(task);
        }
        for (job, timings, why) in running {
            match why {
                Some(why) => self.stopped(job, why, timings),
                // Another one's fault.
                None if killed.is_some() => {
                    self.hand_back_started(job, Stop::new(ReturnReason::SlotMate, &what));
                }
                None => self.hand_back_started(job, Stop::new(ReturnReason::WorkerDied, &what)),
            }
        }
        if let Some(loading) = self.loading.take() {
            for job in loading.jobs {
                if killed.is_some() {
                    self.fail(job, TaskError::new(FailureClass::Transient, &what), Timings::default());
                } else {
                    self.hand_back_started(job, Stop::new(ReturnReason::WorkerDied, &what));
                }
            }
        }
        if let Some(unfit) = unfit {
            self.give_up(&unfit, now);
        }
    }

    /// There is no worker to be had: what waits goes back, and the node takes no more for a while.
    pub(super) fn give_up(&mut self, unfit: &Unfit, now: Instant) {
        let Unfit(why) = unfit;
        let until = now + self.unfit.next(self.node.random.unit());
        self.keeper.wait_until(until);
        self.node.pause(PauseKind::Worker, why.clone(), Some(until));
        let stop = Stop::new(ReturnReason::NodeUnfit, why);
        for removed in self.staging.remove_all(&stop) {
            match removed {
                Removed::Waiting(job) => self.hand_back(job, None, stop.clone()),
                Removed::Staged(job) => self.hand_back_started(job, stop.clone()),
                Removed::Later | Removed::Absent => {}
            }
        }
    }

    fn stopped(&self, job: Job, why: Why, timings: Timings) {
        match why {
            Why::Stop(stop) => self.hand_back_started(job, stop),
            Why::Timeout => {
                let limit = job.timeout.as_secs_f64();
                let message = format!("task_timeout: the run took more than {limit} s");
                self.fail(job, TaskError::new(FailureClass::Transient, message), timings);
            }
        }
    }

    fn fail(&self, job: Job, error: TaskError, timings: Timings) {
        let run = job.run;
        self.finish(job, End::Failed { run, error, timings });
    }

    pub(super) fn hand_back_started(&self, job: Job, stop: Stop) {
        let run = Some(job.run);
        self.hand_back(job, run, stop);
    }

    pub(super) fn hand_back(&self, job: Job, run: Option<RunId>, stop: Stop) {
        self.finish(job, End::Returned { run, stop });
    }

    fn finish(&self, job: Job, end: End) {
        tracing::debug!(task = %job.key.task, attempt = job.key.attempt, run = %job.run, how = end.as_str(), "run over");
        self.jobs.fetch_sub(1, Ordering::Relaxed);
        job.end(end, self.spec.device_kind());
    }
}

/// One by one; or in halves, when only the memory did not suffice.
fn parts(mut jobs: Vec<Job>, out_of_memory: bool) -> Vec<Vec<Job>> {
    if out_of_memory && jobs.len() > 2 {
        let rest = jobs.split_off(jobs.len() / 2);
        vec![jobs, rest]
    } else {
        jobs.into_iter().map(|job| vec![job]).collect()
    }
}

fn core_class(class: Class) -> FailureClass {
    match class {
        Class::Invalid => FailureClass::Invalid,
        Class::Transient => FailureClass::Transient,
        Class::Evicted => FailureClass::Evicted,
    }
}

fn task_error(failed: &Failed) -> TaskError {
    let message = match &failed.pointer {
        Some(pointer) if !failed.message.starts_with(pointer) => format!("{pointer}: {}", failed.message),
        _ => failed.message.clone(),
    };
    TaskError::new(core_class(failed.class), message)
}
