//! Folds what nodes say into tasks and jobs. What an event means is decided by the task's state machine alone.

use std::collections::BTreeSet;

use async_trait::async_trait;
use springtide_core::task::{Moment, RetryPolicy, Task, TaskState};
use springtide_core::wire::{TaskEvent, TaskEventKind};

use super::ledger::{Ending, Ledger, is_in_flight};
use super::{Transaction, Tx};
use crate::Result;
use crate::port::{Applied, EventOutcome, Fence, FinishedRun};

/// [`crate::Store::apply`].
pub(crate) struct Apply {
    pub(crate) fence: Fence,
    pub(crate) events: Vec<TaskEvent>,
    pub(crate) policy: RetryPolicy,
    pub(crate) moment: Moment,
}

#[async_trait]
impl Transaction for Apply {
    type Output = Applied;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Applied> {
        tx.fence(&self.fence).await?;
        let mut ledger = Ledger::new(self.moment.now);
        let tasks: BTreeSet<_> = self.events.iter().map(|event| event.task).collect();
        let jobs: BTreeSet<_> = tasks.iter().map(|task| task.job).collect();
        ledger.load_jobs(tx, jobs).await?;
        ledger.load_tasks(tx, tasks).await?;
        let mut applied = Applied::default();
        for event in &self.events {
            let outcome = self.apply(tx, &mut ledger, event, &mut applied)?;
            applied.outcomes.push(outcome);
        }
        applied.changed = ledger.save(tx).await?;
        Ok(applied)
    }
}

impl Apply {
    fn apply(
        &self,
        tx: &mut Tx<'_>,
        ledger: &mut Ledger,
        event: &TaskEvent,
        applied: &mut Applied,
    ) -> Result<EventOutcome> {
        // A task without a row was never published: nobody can have run it.
        let Some(before) = ledger.task(event.task).cloned() else { return Ok(EventOutcome::Unknown) };
        // Also what changes nothing of a task may tell that its run is over.
        applied.keys_freed |= ledger.note_hold(event);
        let result =
            before.clone().apply(event, &ledger.policy_of(event.task.job, &self.policy), self.moment);
        applied.discard.extend(result.discard);
        if let Some(ignored) = result.ignored {
            return Ok(EventOutcome::Ignored(ignored));
        }
        let after = result.task;
        if let Some(ending) = ending_of(&before, &after, event) {
            ledger.remember(&before, ending);
        }
        self.note(ledger, &before, &after, applied);
        ledger.settle(tx, after)?;
        Ok(EventOutcome::Counted)
    }

    /// What the forecast and the metrics learn from it.
    fn note(&self, ledger: &Ledger, before: &Task, after: &Task, applied: &mut Applied) {
        let Some(job) = ledger.job(after.id.job) else { return };
        let starts = !matches!(before.state, TaskState::Running(_));
        let for_the_first_time = after.charges == 0 && after.evictions == 0;
        match &after.state {
            TaskState::Running(_) if starts && for_the_first_time => {
                applied.waits.push((job.key.priority, self.moment.now.since(job.accepted_at)));
            }
            TaskState::Succeeded(success) => applied.finished.push(FinishedRun {
                model: job.key.model.clone(),
                device: success.device,
                units: job.units,
                run: success.timings.run / success.timings.batch.max(1),
                load: success.timings.load,
            }),
            _ => {}
        }
    }
}

/// What the history keeps of an attempt that this event ended without success.
fn ending_of(before: &Task, after: &Task, event: &TaskEvent) -> Option<Ending> {
    let ended = is_in_flight(&before.state)
        && matches!(after.state, TaskState::Waiting { .. } | TaskState::Failed { .. });
    if !ended {
        return None;
    }
    let (outcome, message, stderr_tail) = match &event.kind {
        TaskEventKind::Failed { error, .. } => {
            ("failed".to_owned(), error.message.clone(), error.stderr_tail.clone())
        }
        TaskEventKind::Returned { reason, message, .. } => {
            (format!("returned: {}", reason.as_str()), message.clone(), String::new())
        }
        _ => return None,
    };
    Some(Ending {
        outcome,
        charged: after.charges > before.charges,
        message,
        stderr_tail,
        run: event.kind.run(),
        node: Some(event.node.clone()),
    })
}
