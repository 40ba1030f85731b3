//! Released tasks with all that their messages need; and the locks that exclusive ones take.

use std::collections::BTreeMap;

use springtide_core::TaskId;
use springtide_core::task::{Task, TaskState};
use springtide_core::wire::Fence;

use super::Tx;
use super::inputs::Specs;
use super::ledger::Ledger;
use crate::connection::{set, text};
use crate::port::ReleasedTask;
use crate::{Error, Result};

/// The tasks, which are Released, as the caller publishes them.
pub(super) async fn released_tasks(
    tx: &mut Tx<'_>,
    ledger: &Ledger,
    tasks: &[TaskId],
    fences: &BTreeMap<TaskId, Fence>,
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
            exclusive: fences.get(id).cloned(),
        });
    }
    Ok(released)
}

/// Takes a key for a task; `None`: another task has it. The number of the hold is its fencing token.
pub(super) async fn take_lock(tx: &mut Tx<'_>, key: &str, task: TaskId) -> Result<Option<Fence>> {
    let mut set = set![task.job, task.index];
    set.insert(0, text(key));
    let taken = tx
        .query_one(
            "INSERT INTO locks (name, counter, holder_job, holder_idx) VALUES ($1, 1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET counter = locks.counter + 1, holder_job = excluded.holder_job, \
             holder_idx = excluded.holder_idx WHERE locks.holder_job IS NULL \
             OR (locks.holder_job = excluded.holder_job AND locks.holder_idx = excluded.holder_idx) RETURNING counter",
            &set,
        )
        .await?;
    taken.map(|mut row| Ok(Fence { key: key.to_owned(), token: row.take()? })).transpose()
}

/// A transition that was checked before it was asked for.
pub(super) fn expected<E: std::fmt::Display>(transition: Result<Task, E>) -> Result<Task> {
    transition.map_err(|error| Error::Broken(error.to_string()))
}
