//! The answers to one batch: each run ends exactly once.

use std::collections::HashSet;
use std::time::Instant;

use springtide_worker_protocol::{Batch, ByteRange, Done, FromWorker, Output, Subject, Timings};

use super::Outbox;
use super::runs::{Farewell, Runs, Standing};
use crate::Failure;

/// What is said about the runs of a batch.
pub struct Answers<'a> {
    outbox: &'a Outbox,
    runs: &'a Runs,
    open: HashSet<&'a str>,
    queued_s: f64,
    started: Instant,
    fatal: Option<Failure>,
}

impl<'a> Answers<'a> {
    /// For a batch that has arrived at `at` and starts now.
    pub fn new(outbox: &'a Outbox, runs: &'a Runs, batch: &'a Batch, at: Instant) -> Self {
        let open = batch.members.iter().map(|member| member.run.as_str()).collect();
        Self { outbox, runs, open, queued_s: at.elapsed().as_secs_f64(), started: super::now(), fatal: None }
    }

    /// Whether the run has not been answered yet.
    pub fn is_open(&self, run: &str) -> bool {
        self.open.contains(run)
    }

    /// Whether the agent wants the run.
    pub fn standing(&self, run: &str) -> Standing {
        if self.outbox.is_broken() { Standing::Cancelled(Farewell::None) } else { self.runs.standing(run) }
    }

    /// Ends the run if the agent does not want it any more, and says whether it did.
    pub fn end_if_cancelled(&mut self, run: &str) -> bool {
        let cancelled = self.standing(run) != Standing::Wanted;
        if cancelled {
            self.failed(run, &Failure::Cancelled);
        }
        cancelled
    }

    /// So many steps are done.
    pub fn progress(&self, run: &str, step: u32, steps: u32) {
        let fraction = f64::from(step) / f64::from(steps.max(1));
        self.outbox.send(&FromWorker::Progress { run: run.to_owned(), fraction, step, steps }, &[]);
    }

    /// From here another worker can go on.
    pub fn checkpoint(&self, run: &str, step: u32, bytes: &[u8]) {
        let body = ByteRange { offset: 0, len: bytes.len() as u64 };
        self.outbox.send(&FromWorker::Checkpoint { run: run.to_owned(), step, body }, bytes);
    }

    /// The good end; `outputs` point into `body`.
    pub fn done(&mut self, run: &str, outputs: Vec<Output>, body: &[u8]) {
        if self.close(run) {
            let timings = Timings { queued_s: self.queued_s, run_s: self.started.elapsed().as_secs_f64() };
            self.outbox.send(&FromWorker::Done(Done { run: run.to_owned(), outputs, timings }), body);
        }
    }

    /// The bad end.
    pub fn failed(&mut self, run: &str, failure: &Failure) {
        if self.close(run) {
            self.outbox.send(&FromWorker::Failed(failure.to_message(Subject::Run(run.to_owned()))), &[]);
        }
        if failure.is_fatal() {
            self.fatal.get_or_insert_with(|| Failure::Device {
                message: failure.to_string(),
                state: crate::failure::DeviceState::Broken,
            });
        }
    }

    /// The bad end of all that is open.
    pub fn fail_rest(&mut self, failure: &Failure) {
        let open: Vec<&str> = self.open.iter().copied().collect();
        for run in open {
            self.failed(run, failure);
        }
    }

    /// What has broken the device, if something has.
    pub fn fatal(&self) -> Option<&Failure> {
        self.fatal.as_ref()
    }

    fn close(&mut self, run: &str) -> bool {
        self.runs.end(run);
        self.open.remove(run)
    }
}
