//! The life of one delivery, from the queue to its ack.

mod saver;
mod solo;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use springtide_broker::Delivery;
use springtide_core::lane::Device;
use springtide_core::wire::{ReturnReason, TaskEventKind, TaskInput, TaskMessage, Timings};
use springtide_core::{FailureClass, LaneName, RunId, TaskError};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Settings;
use crate::device::{Done, End, Handle, Job, Outcome};
use crate::ledger::{Admission, ConsumerId, Entry, Key, Stage};
use crate::node::{Node, State, Urgency};
use crate::outputs::{Made, Uploader};
use crate::prepare::{Prepared, Unprepared, prepare};
use crate::stopper::{Stop, Stopper};
use crate::strategy::Strategy;
use saver::Saver;

/// The share of the broker's ack timeout after which a delivery is acked, done or not.
const ACK_AT: f64 = 0.8;

/// How long a delivery may stay unacked.
pub(crate) fn ack_patience(settings: &Settings) -> Duration {
    settings.ack_timeout.mul_f64(ACK_AT)
}

/// Where a delivery comes from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) lane: LaneName,
    pub(crate) consumer: ConsumerId,
}

/// One attempt that took a slot.
struct Attempt {
    node: Arc<Node>,
    key: Key,
    message: TaskMessage,
    lane: LaneName,
    stopper: Stopper,
    /// The size of the task, once its model is known; measured only where the strategy asks for it.
    units: f64,
}

/// Takes a delivery: into a slot and on its way, or back.
pub(crate) fn accept(node: &Arc<Node>, delivery: Delivery<TaskMessage>, source: &Source) {
    let redelivered = delivery.redelivered;
    let (message, delivery) = delivery.split();
    let key = Key::of(&message);
    let stopper = Stopper::new();
    let entry = Entry {
        delivery: Some(delivery),
        consumer: source.consumer,
        ack_due: Instant::now() + ack_patience(&node.settings),
        stopper: stopper.clone(),
        stage: Stage::Preparing,
    };
    let refusal = {
        let mut state = node.state();
        let State { ledger, gate, leases, .. } = &mut *state;
        match ledger.admit(key, entry, Delivery::is_stale) {
            Admission::Known(spare) => {
                drop(state);
                tracing::debug!(task = %key.task, attempt = key.attempt, "delivered again while it is here");
                // A stale one is delivered once more, and comes here again.
                let _ = spare.map(Delivery::ack);
                return;
            }
            // Whether it ran before can't be known.
            _ if redelivered => Some(Stop::new(ReturnReason::Redelivered, "")),
            Admission::Surplus => {
                // The intake counts again.
                node.changed.raise();
                let why = "all slots are taken by runs from before the connection was lost";
                Some(Stop::new(ReturnReason::NodeUnfit, why))
            }
            Admission::New => {
                let refusal = gate.hand_back(key);
                if refusal.is_none() && message.solo {
                    gate.solo = Some(key);
                }
                if let Some(fence) = &message.exclusive {
                    let grace = node.settings.node.cancel_grace;
                    leases.begin(key, fence.lease, grace, Instant::now());
                }
                refusal
            }
        }
    };
    // The first lease has to be waited for.
    node.changed.raise();
    let span = tracing::info_span!(
        "attempt",
        job = %key.task.job,
        task = key.task.index,
        attempt = key.attempt,
        node = %node.id,
        lane = %source.lane,
    );
    let lane = source.lane.clone();
    let attempt = Attempt { node: Arc::clone(node), key, message, lane, stopper, units: 0.0 };
    let life = async move {
        match refusal {
            Some(stop) => attempt.conclude(returned(None, stop)).await,
            None => attempt.live().await,
        }
    };
    node.tasks.spawn(life.instrument(span));
}

fn returned(run: Option<RunId>, stop: Stop) -> TaskEventKind {
    TaskEventKind::Returned { run, reason: stop.reason, message: stop.message }
}

impl Attempt {
    async fn live(mut self) {
        if self.message.solo {
            // The intake closes, and those who have not started go.
            let others = Stop::new(ReturnReason::SlotMate, "another task has to run alone here");
            self.node.change(|state| state.ledger.stop_held(&others, Some(self.key)));
        }
        let end = self.drive().await;
        self.conclude(end).await;
    }

    /// To its terminal event, which is not said yet.
    async fn drive(&mut self) -> TaskEventKind {
        if self.message.solo
            && let Err(stop) = solo::wait_for_others(&self.node, self.key, &self.stopper).await
        {
            return returned(None, stop);
        }
        let device = match self.node.devices.pick(&self.message) {
            Ok(device) => device,
            Err(why) => return returned(None, Stop::new(ReturnReason::NodeUnfit, why)),
        };
        let input = std::mem::replace(&mut self.message.input, TaskInput::Inline(Value::Null));
        let prepared = tokio::select! {
            biased;
            stop = self.stopper.requested() => return returned(None, stop),
            prepared = prepare(&self.node, &self.message, input) => prepared,
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(Unprepared::HandBack(stop)) => return returned(None, stop),
            Err(Unprepared::Failed(error)) => {
                return TaskEventKind::Failed { run: None, error, timings: Timings::default() };
            }
        };
        self.units = self.units_of(&prepared);
        let run = self.node.new_run();
        let (job, hearing) = Job::new(self.key, run, &self.lane, &self.message, prepared);
        self.node.state().ledger.submitted(self.key);
        device.submit(job).await;
        let saver = Saver::new(Arc::clone(&self.node), self.key, run, hearing.checkpoints);
        // Checkpoints first: once the end is said, nobody takes them any more.
        match tokio::join!(self.outcome(device, hearing.outcome), saver.run()).0 {
            Ok(Outcome { end, device }) => match end {
                End::Done(done) => self.finish(done, device).await,
                End::Failed { run, error, timings } => {
                    TaskEventKind::Failed { run: Some(run), error, timings }
                }
                End::Returned { run, stop } => returned(run, stop),
            },
            Err(_) => returned(None, Stop::new(ReturnReason::NodeUnfit, "the agent ends")),
        }
    }

    async fn outcome(
        &self,
        device: &Handle,
        mut outcome: oneshot::Receiver<Outcome>,
    ) -> Result<Outcome, RecvError> {
        tokio::select! {
            biased;
            outcome = &mut outcome => outcome,
            stop = self.stopper.requested() => {
                device.stop(self.key, stop).await;
                outcome.await
            }
        }
    }

    /// Outputs first, then the success: whoever hears of it finds them.
    async fn finish(&self, done: Done, device: Device) -> TaskEventKind {
        let Done { run, outputs, body, timings } = done;
        let uploader = Uploader {
            objects: Arc::clone(&self.node.objects),
            timeout: self.node.settings.node.upload_timeout,
            random: self.node.random.clone(),
        };
        let made = Made { key: self.key, run, outputs, body: Bytes::from(body) };
        match uploader.upload(made).await {
            Ok(outputs) => TaskEventKind::Succeeded { run, device, outputs, timings },
            Err(error) => TaskEventKind::Failed {
                run: Some(run),
                error: TaskError::new(FailureClass::Transient, error.to_string()),
                timings,
            },
        }
    }

    /// Says how it ended; once that is confirmed, acks and frees the slot.
    async fn conclude(self, end: TaskEventKind) {
        match &end {
            TaskEventKind::Succeeded { timings, .. } => {
                tracing::debug!(run_s = timings.run.as_secs_f64(), batch = timings.batch, "succeeded");
            }
            TaskEventKind::Failed { error, .. } => {
                tracing::info!(class = error.class.as_str(), error = error.message, "failed");
            }
            TaskEventKind::Returned { reason, message, .. } => {
                tracing::info!(reason = reason.as_str(), message, "handed back");
            }
            TaskEventKind::Started { .. } | TaskEventKind::Checkpointed { .. } => {}
        }
        let verdict = Verdict::of(&end);
        let speed = self.speed(&end);
        if !self.node.report(self.key, end).await {
            return;
        }
        let solo = self.message.solo;
        self.node.change(|state| {
            // The slot is free before the broker hears of it, or its next delivery would find it taken.
            state.leases.end(self.key);
            if let Some(delivery) = state.ledger.remove(self.key) {
                // Stale: it is delivered again, and handed back then.
                let _ = delivery.ack();
            }
            if solo && state.gate.solo == Some(self.key) {
                state.gate.solo = None;
            }
            if let Some(speed) = speed {
                state.speed = if state.speed == 0.0 { speed } else { 0.9 * state.speed + 0.1 * speed };
            }
            if verdict == Verdict::Good {
                state.streak.succeeded();
            }
        });
        self.node.heartbeat.ring(Urgency::Eventually);
        if verdict == Verdict::Bad {
            self.node.blame(self.key.task);
        }
    }

    fn units_of(&self, prepared: &Prepared) -> f64 {
        let manifest = prepared.model.as_ref().map(|model| &model.manifest);
        match (self.node.settings.node.load_balancing_strategy, manifest) {
            (Strategy::ResourceBased, Some(manifest)) => manifest.units(&prepared.input).unwrap_or(0.0),
            _ => 0.0,
        }
    }

    /// Model units a second.
    fn speed(&self, end: &TaskEventKind) -> Option<f64> {
        let TaskEventKind::Succeeded { timings, .. } = end else { return None };
        let units = self.units * f64::from(timings.batch.max(1));
        let seconds = timings.run.as_secs_f64();
        (units > 0.0 && seconds > 0.0).then(|| units / seconds)
    }
}

/// What the end of a task says about its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// The node may be to blame.
    Bad,
    Neither,
}

impl Verdict {
    fn of(end: &TaskEventKind) -> Self {
        match end {
            TaskEventKind::Succeeded { .. } => Self::Good,
            TaskEventKind::Failed { error, .. } if error.class == FailureClass::Transient => Self::Bad,
            // The death of a worker is one failure, however many tasks it takes along: its device has counted it.
            _ => Self::Neither,
        }
    }
}
