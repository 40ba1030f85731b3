//! How an event from a node changes a task: which events count, and what a failure costs.

use super::{Moment, RetryPolicy, Running, Success, Task, TaskState};
use crate::failure::{FailureClass, TaskError};
use crate::id::RunId;
use crate::wire::{Checkpoint, Output, ReturnReason, TaskEvent, TaskEventKind};

/// A task after an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The task as it is now.
    pub task: Task,
    /// Why the event changed nothing; `None`: it counted.
    pub ignored: Option<Ignored>,
    /// Objects that nobody needs any more: outputs that lost, checkpoints that are overtaken.
    pub discard: Vec<String>,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// The task has ended.
    Terminal,
    /// It is about another attempt, run or incarnation than the current one.
    Stale,
    /// The task waits in the store; only a success counts there.
    Waiting,
}

impl Ignored {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Stale => "stale",
            Self::Waiting => "waiting",
        }
    }
}

impl Task {
    /// Applies what a node said.
    ///
    /// Before a terminal state the first success of any attempt wins (of the current one only, if the task is
    /// exclusive). Every other event must be about the current attempt, and about the run that is on.
    pub fn apply(self, event: &TaskEvent, policy: &RetryPolicy, moment: Moment) -> Applied {
        if let TaskEventKind::Succeeded { run, device, outputs, timings } = &event.kind {
            let success = Success {
                run: *run,
                node: event.node.clone(),
                attempt: event.attempt,
                device: *device,
                outputs: outputs.clone(),
                timings: *timings,
                at: moment.now,
            };
            return self.succeed(success);
        }
        let ignored = self.why_ignored(event);
        if ignored.is_some() {
            let discard = match &event.kind {
                TaskEventKind::Checkpointed { checkpoint, .. } => self.unless_kept(checkpoint),
                _ => Vec::new(),
            };
            return Applied { task: self, ignored, discard };
        }
        match &event.kind {
            TaskEventKind::Started { run, .. } => self.start(event, *run, moment),
            TaskEventKind::Checkpointed { checkpoint, .. } => self.keep(checkpoint.clone()),
            TaskEventKind::Failed { error, .. } => self.answer(error.clone(), policy, moment).counted(),
            TaskEventKind::Returned { reason, message, .. } => {
                self.take_back(*reason, message, policy, moment).counted()
            }
            TaskEventKind::Succeeded { .. } => unreachable!("handled above"),
        }
    }

    fn succeed(self, success: Success) -> Applied {
        let current = self.attempt == success.attempt
            && matches!(self.state, TaskState::Released { .. } | TaskState::Running(_));
        let ignored = match &self.state {
            TaskState::Succeeded(won) if won.run == success.run => {
                // The winner said it twice: its outputs are the result, not to be discarded.
                return Applied { task: self, ignored: Some(Ignored::Terminal), discard: Vec::new() };
            }
            state if state.is_terminal() => Some(Ignored::Terminal),
            _ if self.exclusive && !current => Some(Ignored::Stale),
            _ => None,
        };
        if ignored.is_some() {
            // Never what the winner has, whoever names it.
            let won = match &self.state {
                TaskState::Succeeded(won) => won.outputs.as_slice(),
                _ => &[],
            };
            let lost = success.outputs.iter().filter_map(Output::key);
            let is_kept = |key: &str| won.iter().any(|output| output.key() == Some(key));
            let discard = lost.filter(|key| !is_kept(key)).map(str::to_owned).collect();
            return Applied { task: self, ignored, discard };
        }
        let discard = self.checkpoint.iter().map(|checkpoint| checkpoint.key.clone()).collect();
        let task = Self { state: TaskState::Succeeded(success), checkpoint: None, suspect: false, ..self };
        Applied { task, ignored: None, discard }
    }

    /// Whether an event that is no success is about what the task does now.
    fn why_ignored(&self, event: &TaskEvent) -> Option<Ignored> {
        let about_current = match &self.state {
            state if state.is_terminal() => return Some(Ignored::Terminal),
            TaskState::Waiting { .. } => return Some(Ignored::Waiting),
            TaskState::Released { .. } => !matches!(event.kind, TaskEventKind::Checkpointed { .. }),
            TaskState::Running(running) => match &event.kind {
                TaskEventKind::Started { .. } => false,
                TaskEventKind::Returned { run: None, .. } => running.incarnation == event.incarnation,
                kind => kind.run() == Some(running.run),
            },
            _ => false,
        };
        (!about_current || self.attempt != event.attempt).then_some(Ignored::Stale)
    }

    fn start(self, event: &TaskEvent, run: RunId, moment: Moment) -> Applied {
        let (TaskState::Released { at, solo, .. }, TaskEventKind::Started { lane, device, .. }) =
            (&self.state, &event.kind)
        else {
            return Applied { task: self, ignored: Some(Ignored::Stale), discard: Vec::new() };
        };
        let running = Running {
            lane: lane.clone(),
            run,
            node: event.node.clone(),
            incarnation: event.incarnation,
            device: *device,
            released_at: *at,
            started_at: moment.now,
            solo: *solo,
        };
        Self { state: TaskState::Running(running), ..self }.counted()
    }

    fn keep(self, checkpoint: Checkpoint) -> Applied {
        let overtaken = self.checkpoint.as_ref().filter(|old| old.key != checkpoint.key);
        let discard = overtaken.map(|old| old.key.clone()).into_iter().collect();
        Applied { task: Self { checkpoint: Some(checkpoint), ..self }, ignored: None, discard }
    }

    fn unless_kept(&self, checkpoint: &Checkpoint) -> Vec<String> {
        let kept = self.checkpoint.as_ref().is_some_and(|kept| kept.key == checkpoint.key);
        if kept { Vec::new() } else { vec![checkpoint.key.clone()] }
    }

    fn answer(self, error: TaskError, policy: &RetryPolicy, moment: Moment) -> Self {
        // It ended by saying so: whatever died before, this task did not do it.
        let task = Self { suspect: false, ..self };
        match error.class {
            FailureClass::Invalid => task.fail(error, moment.now),
            FailureClass::Transient => task.charge(error, policy, moment),
            FailureClass::Evicted => task.put_back(&error.message, policy, moment),
        }
    }

    fn take_back(self, reason: ReturnReason, message: &str, policy: &RetryPolicy, moment: Moment) -> Self {
        let message = if message.is_empty() { reason.as_str() } else { message };
        let solo = match &self.state {
            TaskState::Running(running) => running.solo,
            TaskState::Released { solo, .. } => *solo,
            _ => false,
        };
        if reason.is_unexplained_death() {
            self.suspect_or_charge(solo, message, policy, moment)
        } else {
            self.put_back(message, policy, moment)
        }
    }

    fn counted(self) -> Applied {
        // What ends without success needs its checkpoint no more.
        let over = self.state.is_terminal();
        let discard =
            self.checkpoint.iter().filter(|_| over).map(|checkpoint| checkpoint.key.clone()).collect();
        let checkpoint = if over { None } else { self.checkpoint };
        Applied { task: Self { checkpoint, ..self }, ignored: None, discard }
    }
}

impl TaskEventKind {
    /// The run that the event is about, if it came to one.
    pub const fn run(&self) -> Option<RunId> {
        match self {
            Self::Started { run, .. } | Self::Checkpointed { run, .. } | Self::Succeeded { run, .. } => {
                Some(*run)
            }
            Self::Failed { run, .. } | Self::Returned { run, .. } => *run,
        }
    }
}
