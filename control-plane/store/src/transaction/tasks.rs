//! Tasks as they are read: pages of a job's tasks, what is in flight, what an earlier attempt ended with.

use std::collections::HashSet;

use async_trait::async_trait;
use springtide_core::task::TaskState;
use springtide_core::wire::Checkpoint;
use springtide_core::{JobId, TaskId, Timestamp};

use super::ledger::task::{TaskEntry, columns};
use super::{Transaction, Tx};
use crate::connection::values;
use crate::port::{AttemptRow, Cursor, InFlight, Page, TaskFilter, TaskRow};
use crate::{Error, Result};

/// A page of a job's tasks that have rows; `$condition` goes into the statement.
macro_rules! page {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM tasks WHERE job = $1 AND idx >= $2 ",
            $condition,
            "ORDER BY idx LIMIT $3"
        )
    };
}
pub(super) const PAGE: &str = page!("");
pub(super) const SUCCEEDED_PAGE: &str = page!("AND state = 'succeeded' ");
pub(super) const FAILED_PAGE: &str = page!("AND state = 'failed' ");

/// [`crate::Store::tasks`].
pub(crate) struct ListTasks {
    pub(crate) job: JobId,
    pub(crate) filter: TaskFilter,
    pub(crate) page: Cursor,
}

#[async_trait]
impl Transaction for ListTasks {
    type Output = Page<TaskRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Page<TaskRow>> {
        let start = match &self.page.after {
            Some(after) => {
                let after: u32 = after
                    .parse()
                    .map_err(|_| Error::Conflict(format!("`{after}` is no cursor of a list of tasks")))?;
                after.saturating_add(1)
            }
            None => 0,
        };
        let sql = "SELECT total, next_index, unreleased, finished_at FROM jobs WHERE id = $1";
        let found = tx.query_one(sql, &values![self.job]).await?;
        let mut job = found.ok_or_else(|| Error::NotFound { kind: "job", id: self.job.to_string() })?;
        let range = Range {
            total: job.take()?,
            next_index: job.take()?,
            unreleased: job.take()?,
            ended_at: job.take()?,
        };
        let limit = self.page.limit as usize;
        let mut items = self.with_rows(tx, start).await?;
        if self.filter == TaskFilter::All {
            let first = start.max(range.next_index);
            let made_up = (first..range.total).map(|index| range.task(TaskId { job: self.job, index }));
            let missing = (limit + 1).saturating_sub(items.len());
            items.extend(made_up.take(missing));
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|task| task.id.index.to_string());
        Ok(Page { items, next })
    }
}

impl ListTasks {
    async fn with_rows(&self, tx: &mut Tx<'_>, start: u32) -> Result<Vec<TaskRow>> {
        let sql = match self.filter {
            TaskFilter::All => PAGE,
            TaskFilter::Succeeded => SUCCEEDED_PAGE,
            TaskFilter::Failed => FAILED_PAGE,
        };
        let limit = u64::from(self.page.limit) + 1;
        let rows = tx.query(sql, &values![self.job, start, limit]).await?;
        rows.into_iter().map(|row| TaskEntry::read(row).map(row_of)).collect()
    }
}

/// The tasks of a job that have no row.
struct Range {
    total: u32,
    next_index: u32,
    unreleased: u32,
    ended_at: Option<Timestamp>,
}

impl Range {
    fn task(&self, id: TaskId) -> TaskRow {
        let waits = self.unreleased > 0;
        TaskRow {
            id,
            state: if waits { "waiting" } else { "cancelled" },
            attempt: 0,
            charges: 0,
            evictions: 0,
            suspect: false,
            lane: None,
            node: None,
            run: None,
            device: None,
            released_at: None,
            started_at: None,
            ended_at: self.ended_at.filter(|_| !waits),
            timings: None,
            outputs: Vec::new(),
            error: None,
        }
    }
}

fn row_of(entry: TaskEntry) -> TaskRow {
    let TaskEntry { task, trail, .. } = entry;
    let state = task.state.as_str();
    let (timings, outputs, error) = match task.state {
        TaskState::Succeeded(success) => (Some(success.timings), success.outputs, None),
        TaskState::Failed { error, .. } => (None, Vec::new(), Some(error)),
        _ => (None, Vec::new(), None),
    };
    TaskRow {
        id: task.id,
        state,
        attempt: task.attempt,
        charges: task.charges,
        evictions: task.evictions,
        suspect: task.suspect,
        lane: trail.lane,
        node: trail.node,
        run: trail.run,
        device: trail.device,
        released_at: trail.released_at,
        started_at: trail.started_at,
        ended_at: trail.ended_at,
        timings,
        outputs,
        error,
    }
}

/// [`crate::Store::attempts`].
pub(crate) struct Attempts(pub(crate) TaskId);

#[async_trait]
impl Transaction for Attempts {
    type Output = Vec<AttemptRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<AttemptRow>> {
        let rows = tx
            .query(
                "SELECT attempt, node, run, released_at, started_at, ended_at, outcome, charged, message, stderr_tail \
                 FROM task_attempts WHERE job = $1 AND idx = $2 ORDER BY attempt",
                &values![self.0.job, self.0.index],
            )
            .await?;
        rows.into_iter()
            .map(|mut row| {
                Ok(AttemptRow {
                    attempt: row.take()?,
                    node: row.take()?,
                    run: row.take()?,
                    released_at: row.take()?,
                    started_at: row.take()?,
                    ended_at: row.take()?,
                    outcome: row.take()?,
                    charged: row.take()?,
                    message: row.take()?,
                    stderr_tail: row.take()?,
                })
            })
            .collect()
    }
}

/// The condition on three states is that of the index.
pub(super) const IN_FLIGHT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM tasks WHERE state = $1 AND state IN ('waiting', 'released', 'running') ORDER BY job, idx"
);
pub(super) const NEXT_DUE: &str =
    "SELECT not_before FROM tasks WHERE not_before > $1 ORDER BY not_before LIMIT 1";

/// [`crate::Store::in_flight`].
pub(crate) struct AllInFlight;

#[async_trait]
impl Transaction for AllInFlight {
    type Output = Vec<InFlight>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<InFlight>> {
        let mut all = Vec::new();
        for state in ["released", "running"] {
            for row in tx.query(IN_FLIGHT, &values![state]).await? {
                let task = TaskEntry::read(row)?.task;
                let (id, attempt) = (task.id, task.attempt);
                all.extend(match task.state {
                    TaskState::Released { lane, at, solo } => {
                        Some(InFlight { task: id, attempt, lane, released_at: at, solo, running: None })
                    }
                    TaskState::Running(running) => Some(InFlight {
                        task: id,
                        attempt,
                        lane: running.lane,
                        released_at: running.released_at,
                        solo: running.solo,
                        running: Some((running.node, running.incarnation, running.run, running.started_at)),
                    }),
                    _ => None,
                });
            }
        }
        Ok(all)
    }
}

/// The condition on three states is that of the index; a task that has ended has no checkpoint.
pub(super) const CHECKPOINTS: &str = "SELECT checkpoint FROM tasks \
    WHERE state IN ('waiting', 'released', 'running') AND checkpoint IS NOT NULL";

/// [`crate::Store::checkpoints`].
pub(crate) struct Checkpoints;

#[async_trait]
impl Transaction for Checkpoints {
    type Output = HashSet<String>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<HashSet<String>> {
        let mut keys = HashSet::new();
        for mut row in tx.query(CHECKPOINTS, &values![]).await? {
            let checkpoint: Option<Checkpoint> = row.optional_json()?;
            keys.extend(checkpoint.map(|checkpoint| checkpoint.key));
        }
        Ok(keys)
    }
}

/// [`crate::Store::next_due`].
pub(crate) struct NextDue(pub(crate) Timestamp);

#[async_trait]
impl Transaction for NextDue {
    type Output = Option<Timestamp>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
        tx.query_one(NEXT_DUE, &values![self.0]).await?.map(|mut row| row.take()).transpose()
    }
}
