//! What goes through the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use springtide_broker::memory::{ClientId, Sight};
use springtide_core::wire::{EventMessage, ReturnReason, TaskEvent, TaskEventKind, TaskMessage};
use springtide_core::{FailureClass, RunId};
use tokio::time::Instant;

use super::{Attempt, State, Truth, tasks};
use crate::simulation::life::Life;

/// Within which a publication without a confirm has to be followed by a new attempt, if nothing else goes wrong.
const NEW_ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
/// The share of the ack timeout after which an agent may ack what it still runs.
const EARLY: f64 = 0.79;

/// A delivery that was not acked.
pub(super) struct Held {
    client: ClientId,
    attempt: Attempt,
    since: Instant,
}

/// A publication whose confirm did not come.
pub(super) struct Owed {
    attempt: Attempt,
    due: Instant,
    publisher: Arc<Life>,
    /// How much trouble its publisher had had by then, and who led.
    troubles: u64,
    token: u64,
}

impl Truth {
    /// A task's message was put on its way.
    pub fn published(&self, message: &TaskMessage, copies: u32) {
        let (task, attempt) = (message.task, message.attempt);
        let mut state = self.step(format!("published {task} attempt {attempt} ×{copies}"));
        state.attempt((task, attempt)).copies += copies;
    }

    /// Whoever published a task's message is told that no confirm came.
    pub fn unconfirmed(&self, message: &TaskMessage, publisher: &Arc<Life>) {
        let attempt = (message.task, message.attempt);
        let mut state = self.step(format!("no confirm for {} attempt {}", attempt.0, attempt.1));
        if message.exclusive.is_some() {
            // It waits until its message can't be read any more: two of them must not be about.
            return;
        }
        let due = Instant::now() + NEW_ATTEMPT_WITHIN;
        let (publisher, troubles, token) =
            (Arc::clone(publisher), publisher.troubles(), state.attempt(attempt).token);
        state.owed.push(Owed { attempt, due, publisher, troubles, token });
    }

    /// Publications without a confirm that should have been followed by a new attempt by now. Whoever died, had other
    /// trouble since or does not lead any more is excused: the next leader gives a new attempt, or the comparison.
    pub fn check_owed(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let owed = std::mem::take(&mut state.owed);
        let (due, later): (Vec<Owed>, Vec<Owed>) = owed.into_iter().partition(|owed| owed.due <= now);
        state.owed = later;
        for Owed { attempt: (task, attempt), publisher, troubles, token, .. } in due {
            let same = |row: &tasks::Row| row.state == "released" && row.attempt == attempt;
            let still = state.rows.get(&task).is_some_and(same);
            if still && token == state.token && publisher.troubles() == troubles {
                state.accuse_task(
                    task,
                    format!("attempt {attempt} has no confirm, and no new attempt followed"),
                );
            }
        }
    }

    /// The broker did something with a client.
    pub fn sees(&self, sight: &Sight<'_>, ack_timeout: Duration) {
        match *sight {
            Sight::Delivered { client, queue, channel, tag, redelivered, body } => {
                if !queue.starts_with("springtide.lane.") {
                    return;
                }
                let Ok(message) = serde_json::from_slice::<TaskMessage>(body) else { return };
                let attempt = (message.task, message.attempt);
                let again = if redelivered { " again" } else { "" };
                let mut state =
                    self.step(format!("delivered {} attempt {}{again} to {client:?}", attempt.0, attempt.1));
                if !redelivered {
                    state.attempt(attempt).fresh.insert(client);
                }
                state.deliveries.insert((channel, tag), Held { client, attempt, since: Instant::now() });
            }
            Sight::Acked { channel, tag, .. } => {
                let mut state = self.lock();
                if let Some(held) = state.deliveries.remove(&(channel, tag)) {
                    let (task, attempt) = held.attempt;
                    self.journal.note(format!("acked {task} attempt {attempt} by {:?}", held.client));
                    state.judge_ack(&held, ack_timeout);
                }
            }
        }
    }

    /// An agent says something for the first time.
    pub fn said(&self, events: &[TaskEvent]) {
        for event in events {
            let TaskEvent { task, attempt, node, kind, .. } = event;
            let why = match kind {
                TaskEventKind::Failed { error, .. } => {
                    format!(" {}: {}", error.class.as_str(), error.message)
                }
                TaskEventKind::Returned { reason, message, .. } => format!(" {}: {message}", reason.as_str()),
                _ => String::new(),
            };
            let mut state = self.step(format!("{node} says {task} attempt {attempt} {}{why}", kind.as_str()));
            let (hung, objects_failed) = (state.hung_lately(node.as_str()), state.objects_failed);
            let truth = state.attempt((*task, *attempt));
            match kind {
                TaskEventKind::Failed { error, .. } if error.class == FailureClass::Transient => {
                    truth.to_blame = true;
                    truth.unlucky |= hung && error.message.starts_with("task_timeout");
                    truth.unlucky |= objects_failed && error.message.contains("could not be");
                }
                TaskEventKind::Returned { reason: ReturnReason::WorkerDied, .. } if truth.solo => {
                    truth.to_blame = true;
                }
                _ => {}
            }
        }
    }

    /// An agent hears that the broker has what it said.
    pub fn confirmed(&self, client: ClientId, message: &EventMessage) {
        let EventMessage::Events { events, .. } = message else { return };
        let mut state = self.lock();
        state.counts.steps += 1;
        for event in events {
            let truth = state.attempt((event.task, event.attempt));
            match &event.kind {
                TaskEventKind::Started { run, .. } => {
                    truth.started.insert(*run);
                }
                TaskEventKind::Checkpointed { .. } => {}
                _ => {
                    truth.ended.insert(client);
                }
            }
        }
    }

    /// Attempts and the runs whose start is confirmed, for whoever wants to look.
    pub fn runs_by_attempt(&self) -> BTreeMap<Attempt, Vec<RunId>> {
        let state = self.lock();
        state.attempts.iter().map(|(key, truth)| (*key, truth.runs.iter().copied().collect())).collect()
    }
}

impl State {
    /// An agent acks what has ended and is confirmed, what the broker loses patience with, and what it has twice.
    fn judge_ack(&mut self, held: &Held, ack_timeout: Duration) {
        let (client, attempt) = (held.client, held.attempt);
        let other = self.deliveries.values().any(|other| other.client == client && other.attempt == attempt);
        let truth = self.attempt(attempt);
        if truth.ended.contains(&client) {
            return;
        }
        if held.since.elapsed() >= ack_timeout.mul_f64(EARLY) {
            truth.acked_early.insert(client);
            return;
        }
        if other || truth.acked_early.contains(&client) {
            return;
        }
        let what = format!("attempt {} was acked before its end was confirmed", attempt.1);
        self.accuse_task(attempt.0, what);
    }
}
