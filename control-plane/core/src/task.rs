//! The life of a task.
//!
//! ```text
//! Waiting{not_before} → Released{lane} → Running{run, node} → Succeeded{outputs}
//!    ↑______________________ new attempt later ____↓       → Failed{error}
//! any state that is not terminal → Cancelled
//! ```
//!
//! Three numbers are kept apart: `attempt` counts publications and fences, `charges` counts failures that the task may
//! have caused, `evictions` counts those that it did not. Which of them a failure raises is decided here, by class
//! alone.

mod apply;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::failure::{FailureClass, TaskError};
use crate::id::{Incarnation, LaneName, NodeId, RunId, TaskId};
use crate::lane::Device;
use crate::time::Timestamp;
use crate::wire::{Checkpoint, Output, Timings};

pub use apply::{Applied, Ignored};

/// A task, as its row in the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Which task.
    pub id: TaskId,
    /// The number of its latest publication; 0: never published.
    pub attempt: u32,
    /// Failures that counted against `max_retries`.
    pub charges: u32,
    /// Failures that did not.
    pub evictions: u32,
    /// It was running when something died, and runs alone until that is explained.
    pub suspect: bool,
    /// Whether at most one task with its job's key may run; then only its current attempt may succeed.
    pub exclusive: bool,
    /// Where another node goes on from.
    pub checkpoint: Option<Checkpoint>,
    /// Its state.
    pub state: TaskState,
}

/// The states of a task, with what is known in each.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskState {
    /// In the store only.
    Waiting {
        /// Not to be released before.
        not_before: Timestamp,
    },
    /// In a lane's queue, or held by a node that has not started it.
    Released {
        /// The lane.
        lane: LaneName,
        /// Since when.
        at: Timestamp,
        /// Whether it goes out to be run alone.
        solo: bool,
    },
    /// On a node.
    Running(Running),
    /// Done. Terminal.
    Succeeded(Success),
    /// Given up. Terminal.
    Failed {
        /// Why.
        error: TaskError,
        /// When.
        at: Timestamp,
    },
    /// Nobody wants it. Terminal.
    Cancelled {
        /// Since when.
        at: Timestamp,
    },
}

impl TaskState {
    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Released { .. } => "released",
            Self::Running(_) => "running",
            Self::Succeeded(_) => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether it never changes again.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed { .. } | Self::Cancelled { .. })
    }
}

/// What is known of a running task.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The lane that it came through.
    pub lane: LaneName,
    /// The run.
    pub run: RunId,
    /// The node that runs it.
    pub node: NodeId,
    /// The start of that node's agent.
    pub incarnation: Incarnation,
    /// The kind of device.
    pub device: Device,
    /// When it was released.
    pub released_at: Timestamp,
    /// When its start was applied.
    pub started_at: Timestamp,
    /// Whether it runs alone.
    pub solo: bool,
}

/// What is known of a task that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Success {
    /// The run that won.
    pub run: RunId,
    /// The node that ran it.
    pub node: NodeId,
    /// The attempt that won; it may be an earlier one than the task's latest.
    pub attempt: u32,
    /// The kind of device.
    pub device: Device,
    /// Its outputs.
    pub outputs: Vec<Output>,
    /// How long it took.
    pub timings: Timings,
    /// When it was applied.
    pub at: Timestamp,
}

/// How failures are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// More charges than this fail the task.
    pub max_retries: u32,
    /// More evictions than this fail the task: something is wrong that no retry mends.
    pub max_evictions: u32,
    /// The delay after the first charge; doubles with each.
    pub base_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            max_evictions: 100,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_mins(1),
        }
    }
}

impl RetryPolicy {
    /// Exponential back-off with "equal jitter" (half fixed, half random), `jitter` in 0..1.
    fn delay(&self, charges: u32, jitter: f64) -> Duration {
        let doubled = self.base_delay.saturating_mul(1 << charges.saturating_sub(1).min(20));
        doubled.min(self.max_delay).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// When something happens, and the randomness that it may use.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// A random number in 0..1.
    pub jitter: f64,
}

/// The transition is not possible from this state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} is {state}: it can't be {wanted}")]
pub struct InvalidTransition {
    task: TaskId,
    state: &'static str,
    wanted: &'static str,
}

/// Why a task that was running is taken from its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The node was drained, terminated by its provider, or says itself that it does not run the task.
    Explained,
    /// The node died: the task may be what killed it.
    Unexplained,
}

impl Task {
    /// A task that nothing has happened to yet.
    pub const fn new(id: TaskId, exclusive: bool, not_before: Timestamp) -> Self {
        Self {
            id,
            attempt: 0,
            charges: 0,
            evictions: 0,
            suspect: false,
            exclusive,
            checkpoint: None,
            state: TaskState::Waiting { not_before },
        }
    }

    /// Waiting → Released, as a new attempt.
    pub fn release(self, lane: LaneName, now: Timestamp) -> Result<Self, InvalidTransition> {
        match self.state {
            TaskState::Waiting { .. } => Ok(self.publish(lane, now)),
            _ => Err(self.refuse("released")),
        }
    }

    /// Released → Released, as a new attempt: what became of the last publication is not known.
    pub fn republish(self, now: Timestamp) -> Result<Self, InvalidTransition> {
        match &self.state {
            TaskState::Released { lane, .. } => {
                let lane = lane.clone();
                Ok(self.publish(lane, now))
            }
            _ => Err(self.refuse("published again")),
        }
    }

    /// Any state that is not terminal → Cancelled.
    pub fn cancel(self, now: Timestamp) -> Result<Self, InvalidTransition> {
        if self.state.is_terminal() {
            return Err(self.refuse("cancelled"));
        }
        Ok(Self { state: TaskState::Cancelled { at: now }, ..self })
    }

    /// Released or Running → Waiting (or Failed, past the limits): its node does not have it any more.
    pub fn evict(
        self,
        loss: Loss,
        message: &str,
        policy: &RetryPolicy,
        moment: Moment,
    ) -> Result<Self, InvalidTransition> {
        match &self.state {
            TaskState::Released { .. } => Ok(self.put_back(message, policy, moment)),
            TaskState::Running(running) => {
                let solo = running.solo;
                Ok(match loss {
                    Loss::Explained => self.put_back(message, policy, moment),
                    Loss::Unexplained => self.suspect_or_charge(solo, message, policy, moment),
                })
            }
            _ => Err(self.refuse("evicted")),
        }
    }

    fn refuse(&self, wanted: &'static str) -> InvalidTransition {
        InvalidTransition { task: self.id, state: self.state.as_str(), wanted }
    }

    fn publish(self, lane: LaneName, now: Timestamp) -> Self {
        let solo = self.suspect;
        Self { attempt: self.attempt + 1, state: TaskState::Released { lane, at: now, solo }, ..self }
    }

    /// An eviction: not charged, again at once, at the front of its priority (its rank does not change).
    fn put_back(mut self, message: &str, policy: &RetryPolicy, moment: Moment) -> Self {
        self.evictions += 1;
        if self.evictions > policy.max_evictions {
            let message = format!("handed back {} times, the last time: {message}", self.evictions);
            return self.fail(TaskError::new(FailureClass::Evicted, message), moment.now);
        }
        Self { state: TaskState::Waiting { not_before: moment.now }, ..self }
    }

    /// An unexplained death: the first makes a suspect, one while alone is charged.
    fn suspect_or_charge(self, solo: bool, message: &str, policy: &RetryPolicy, moment: Moment) -> Self {
        if solo {
            self.charge(TaskError::new(FailureClass::Transient, message), policy, moment)
        } else {
            Self { suspect: true, ..self }.put_back(message, policy, moment)
        }
    }

    fn charge(mut self, error: TaskError, policy: &RetryPolicy, moment: Moment) -> Self {
        self.charges += 1;
        if self.charges > policy.max_retries {
            return self.fail(error, moment.now);
        }
        let not_before = moment.now + policy.delay(self.charges, moment.jitter);
        Self { state: TaskState::Waiting { not_before }, ..self }
    }

    fn fail(self, error: TaskError, now: Timestamp) -> Self {
        Self { state: TaskState::Failed { error, at: now }, ..self }
    }
}
