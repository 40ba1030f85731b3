//! Corrects tasks by what the nodes have: takes them back, or publishes them again.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use springtide_core::TaskId;
use springtide_core::task::{Moment, RetryPolicy, Task, TaskState};

use super::ledger::{Ending, Ledger, is_in_flight};
use super::messages::{expected, released_tasks};
use super::{Transaction, Tx};
use crate::Result;
use crate::port::{Fence, ReconcileAction, Reconciliation};

/// [`crate::Store::reconcile`].
pub(crate) struct Reconcile {
    pub(crate) fence: Fence,
    pub(crate) actions: Vec<ReconcileAction>,
    pub(crate) policy: RetryPolicy,
    pub(crate) moment: Moment,
}

impl ReconcileAction {
    const fn target(&self) -> (TaskId, u32) {
        match self {
            Self::Evict { task, attempt, .. } | Self::Republish { task, attempt } => (*task, *attempt),
        }
    }
}

#[async_trait]
impl Transaction for Reconcile {
    type Output = Reconciliation;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Reconciliation> {
        tx.fence(&self.fence).await?;
        let mut ledger = Ledger::new(self.moment.now);
        let tasks: BTreeSet<_> = self.actions.iter().map(|action| action.target().0).collect();
        let jobs: BTreeSet<_> = tasks.iter().map(|task| task.job).collect();
        ledger.load_jobs(tx, jobs).await?;
        ledger.load_tasks(tx, tasks).await?;
        let mut result = Reconciliation::default();
        let mut republished = Vec::new();
        for action in &self.actions {
            let (id, attempt) = action.target();
            let Some(before) = ledger.task(id).cloned() else { continue };
            if before.attempt != attempt || !is_in_flight(&before.state) {
                continue;
            }
            let after = match action {
                ReconcileAction::Evict { loss, message, .. } => {
                    let policy = ledger.policy_of(id.job, &self.policy);
                    let after = expected(before.clone().evict(*loss, message, &policy, self.moment))?;
                    ledger.remember(&before, ending("evicted", &before, &after, message));
                    without_checkpoint_at_the_end(after, &mut result.discard)
                }
                ReconcileAction::Republish { .. } => {
                    if !matches!(before.state, TaskState::Released { .. }) || before.exclusive {
                        continue;
                    }
                    let after = expected(before.clone().republish(self.moment.now))?;
                    ledger.remember(&before, ending("republished", &before, &after, ""));
                    republished.push(id);
                    after
                }
            };
            ledger.settle(tx, after)?;
        }
        result.republished = released_tasks(tx, &ledger, &republished, &BTreeMap::new()).await?;
        result.changed = ledger.save(tx).await?;
        Ok(result)
    }
}

fn ending(outcome: &str, before: &Task, after: &Task, message: &str) -> Ending {
    Ending {
        outcome: outcome.to_owned(),
        charged: after.charges > before.charges,
        message: message.to_owned(),
        stderr_tail: String::new(),
        run: None,
        node: None,
    }
}

fn without_checkpoint_at_the_end(mut task: Task, discard: &mut Vec<String>) -> Task {
    if task.state.is_terminal() {
        discard.extend(task.checkpoint.take().map(|checkpoint| checkpoint.key));
    }
    task
}
