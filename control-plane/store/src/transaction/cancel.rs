//! Cancels a job: the range of tasks without a row at once, the others one by one.

use async_trait::async_trait;
use springtide_core::task::TaskState;
use springtide_core::{JobId, Timestamp};

use super::ledger::Ledger;
use super::messages::expected;
use super::{Transaction, Tx};
use crate::port::{Cancelled, StopRun};
use crate::{Error, Result};

/// [`crate::Store::cancel`].
pub(crate) struct Cancel {
    pub(crate) job: JobId,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Transaction for Cancel {
    type Output = Cancelled;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Cancelled> {
        let mut ledger = Ledger::new(self.now);
        ledger.load_jobs(tx, [self.job]).await?;
        let job =
            ledger.job(self.job).ok_or_else(|| Error::NotFound { kind: "job", id: self.job.to_string() })?;
        let mut cancelled = Cancelled { version: job.version, stop: Vec::new(), discard: Vec::new() };
        if job.status.is_terminal() {
            return Ok(cancelled);
        }
        ledger.cancel_range(tx, self.job);
        for id in ledger.load_open_tasks(tx, self.job).await? {
            let Some(task) = ledger.task(id).cloned() else { continue };
            if let TaskState::Running(running) = &task.state {
                let (node, incarnation, run) = (running.node.clone(), running.incarnation, running.run);
                cancelled.stop.push(StopRun { node, incarnation, run });
            }
            let mut after = expected(task.cancel(self.now))?;
            cancelled.discard.extend(after.checkpoint.take().map(|checkpoint| checkpoint.key));
            ledger.settle(tx, after)?;
        }
        if let Some((_, version, _)) = ledger.save(tx).await?.first() {
            cancelled.version = *version;
        }
        Ok(cancelled)
    }
}
