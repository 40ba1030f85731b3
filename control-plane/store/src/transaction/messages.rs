//! Released tasks with all that their messages need.

use std::collections::BTreeMap;

use springtide_core::TaskId;
use springtide_core::task::{Task, TaskState};

use super::Tx;
use super::inputs::Specs;
use super::ledger::Ledger;
use crate::port::{Claim, ReleasedTask};
use crate::{Error, Result};

/// The tasks, which are Released, as the caller publishes them.
pub(super) async fn released_tasks(
    tx: &mut Tx<'_>,
    ledger: &Ledger,
    tasks: &[TaskId],
    keys: &BTreeMap<TaskId, Claim>,
) -> Result<Vec<ReleasedTask>> {
    let mut jobs: Vec<_> = tasks.iter().map(|task| task.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let mut specs = Specs::load(tx, jobs).await?;
    let mut released = Vec::with_capacity(tasks.len());
    for id in tasks {
        let input = specs.input(tx, *id).await?;
        let spec = specs.spec(id.job)?;
        let missing = || Error::Broken(format!("task {id} was not loaded"));
        let job = ledger.job(id.job).ok_or_else(missing)?;
        let task = ledger.task(*id).ok_or_else(missing)?;
        let TaskState::Released { lane, at, solo } = &task.state else { return Err(missing()) };
        released.push(ReleasedTask {
            task: *id,
            attempt: task.attempt,
            lane: lane.clone(),
            accepted_at: job.accepted_at,
            released_at: *at,
            priority: spec.priority,
            model: spec.model.clone(),
            kind: spec.kind,
            input,
            timeout: spec.timeout,
            resources: spec.resources,
            solo: *solo,
            checkpoint: task.checkpoint.clone(),
            exclusive: keys.get(id).cloned(),
        });
    }
    Ok(released)
}

/// A transition that was checked before it was asked for.
pub(super) fn expected<E: std::fmt::Display>(transition: Result<Task, E>) -> Result<Task> {
    transition.map_err(|error| Error::Broken(error.to_string()))
}
