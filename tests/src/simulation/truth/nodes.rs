//! What nodes say of themselves, and whether anybody may take them for lost.

use springtide_core::TaskId;
use springtide_core::task::Loss;
use springtide_store::port::ReconcileAction;
use tokio::time::Instant;

use super::{State, Truth};

/// How a node was heard.
#[derive(Debug)]
pub(super) struct Voice {
    last: Instant,
    /// The end of the last silence that was long enough to be taken for lost.
    silence_ended: Option<Instant>,
}

/// Silences are measured where they are said, and judged where they are heard.
const TOLERANCE: f64 = 0.8;

impl Truth {
    /// A heartbeat was handed to the broker.
    pub fn spoke(&self, node: &str) {
        self.journal.note(format!("{node} sends a heartbeat"));
        let now = Instant::now();
        let mut state = self.lock();
        let voice = Voice { last: now, silence_ended: None };
        let voice = state.voices.entry(node.to_owned()).or_insert(voice);
        if now - voice.last >= self.lost_after.mul_f64(TOLERANCE) {
            voice.silence_ended = Some(now);
        }
        voice.last = now;
    }

    /// A node is noted as lost.
    pub fn lost(&self, node: &str) {
        let mut state = self.step(format!("{node} is lost"));
        let since = Instant::now() - self.lost_after.min(self.journal.elapsed());
        if !self.was_silent(&state, node, since) {
            state.accuse(format!("{node} was taken for lost and had spoken"), vec![node.to_owned()]);
        }
    }

    /// Whether a node was silent for so long, at some time since then, that it may be taken for lost.
    fn was_silent(&self, state: &State, node: &str, since: Instant) -> bool {
        state.voices.get(node).is_none_or(|voice| {
            voice.last.elapsed() >= self.lost_after.mul_f64(TOLERANCE)
                || voice.silence_ended.is_some_and(|ended| ended >= since)
        })
    }

    /// The comparison is about to correct tasks. What goes on where it should may not be taken away; what died alone
    /// without explanation may be charged.
    pub fn corrects(&self, actions: &[ReconcileAction]) {
        for action in actions {
            let mut state = self.step(match action {
                ReconcileAction::Evict { task, attempt, loss, message } => {
                    format!("corrects {task} attempt {attempt} evict {loss:?}: {message}")
                }
                ReconcileAction::Republish { task, attempt } => {
                    format!("corrects {task} attempt {attempt} republish")
                }
            });
            if let ReconcileAction::Evict { task, attempt, loss, message } = action {
                self.judge_eviction(&mut state, *task, *attempt, *loss, message);
            }
        }
    }

    fn judge_eviction(&self, state: &mut State, task: TaskId, attempt: u32, loss: Loss, message: &str) {
        let row = state.rows.get(&task).filter(|row| row.state == "running" && row.attempt == attempt);
        let Some((node, run)) = row.and_then(|row| Some((row.node.clone()?, row.run?))) else { return };
        let truth = state.runs.get(&run);
        let goes_on = truth.is_some_and(|run| run.end.is_none());
        let began = truth.map_or_else(Instant::now, |run| run.began);
        let silent = self.was_silent(state, &node, began);
        if goes_on && !silent && !message.contains("its node has ended") {
            state.accuse_task(task, format!("it was taken from {node}, where {run} goes on: {message}"));
        }
        let truth = state.attempt((task, attempt));
        truth.to_blame |= truth.solo && loss == Loss::Unexplained && (silent || !goes_on);
    }
}
