//! A job's row, as far as it changes, and what a task's change does to it.

use springtide_core::job::{EverStarted, JobStatus, TaskCounts};
use springtide_core::task::{Task, TaskState};
use springtide_core::{JobId, TaskError, Timestamp};

use crate::connection::{Row, Value, json, set};
use crate::transaction::backlog::{Key, device_request_of, priority_of};
use crate::{Error, Result};

/// A job in the ledger.
pub(in crate::transaction) struct JobEntry {
    pub(in crate::transaction) id: JobId,
    /// Under which its tasks are counted.
    pub(in crate::transaction) key: Key,
    pub(in crate::transaction) rank: Timestamp,
    pub(in crate::transaction) units: f64,
    pub(in crate::transaction) exclusive_key: Option<String>,
    /// More charges than this fail one of its tasks.
    pub(in crate::transaction) max_retries: u32,
    pub(in crate::transaction) status: JobStatus,
    pub(in crate::transaction) version: u64,
    pub(in crate::transaction) next_index: u32,
    pub(in crate::transaction) unreleased: u32,
    /// `waiting` is not kept: it is the rest.
    pub(in crate::transaction) counts: TaskCounts,
    pub(in crate::transaction) accepted_at: Timestamp,
    pub(in crate::transaction) started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    error: Option<(u32, TaskError)>,
    load_s: f64,
    run_s: f64,
    pub(in crate::transaction) changed: bool,
}

/// Loads and locks one job.
pub(in crate::transaction) const LOAD: &str = "SELECT id, lane, device, priority, model, rank, units, exclusive_key, \
    max_retries, status, version, next_index, unreleased, total, released, running, succeeded, failed, cancelled, \
    accepted_at, started_at, finished_at, error_index, error, load_s, run_s FROM jobs WHERE id = $1 FOR UPDATE";

/// Writes one job back.
pub(super) const SAVE: &str = "UPDATE jobs SET status = $2, version = $3, next_index = $4, unreleased = $5, \
    released = $6, running = $7, succeeded = $8, failed = $9, cancelled = $10, started_at = $11, finished_at = $12, \
    error_index = $13, error = $14, load_s = $15, run_s = $16 WHERE id = $1";

/// The class of a job's tasks: what release looks through.
pub(in crate::transaction) fn class_of(key: &Key) -> String {
    format!("{}/{}/{}", key.lane, key.device.as_str(), key.priority.as_str())
}

/// A stored status.
pub(in crate::transaction) fn status_of(name: &str) -> Result<JobStatus> {
    JobStatus::from_name(name).ok_or_else(|| Error::Broken(format!("`{name}` is no job status")))
}

impl JobEntry {
    pub(super) fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            id: row.take()?,
            key: Key {
                lane: row.take()?,
                device: device_request_of(&row.take::<String>()?)?,
                priority: priority_of(row.take()?)?,
                model: row.take()?,
            },
            rank: row.take()?,
            units: row.take()?,
            exclusive_key: row.take()?,
            max_retries: row.take()?,
            status: status_of(&row.take::<String>()?)?,
            version: row.take()?,
            next_index: row.take()?,
            unreleased: row.take()?,
            counts: TaskCounts {
                total: row.take()?,
                waiting: 0,
                released: row.take()?,
                running: row.take()?,
                succeeded: row.take()?,
                failed: row.take()?,
                cancelled: row.take()?,
            },
            accepted_at: row.take()?,
            started_at: row.take()?,
            finished_at: row.take()?,
            error: match (row.take()?, row.optional_json()?) {
                (Some(index), Some(error)) => Some((index, error)),
                _ => None,
            },
            load_s: row.take()?,
            run_s: row.take()?,
            changed: false,
        })
    }

    /// A task has gone from one state to another.
    pub(super) fn note(&mut self, before: &TaskState, after: &Task, now: Timestamp) {
        if let Some(count) = self.count(before) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.count(&after.state) {
            *count += 1;
        }
        match &after.state {
            TaskState::Running(_) => self.started_at = self.started_at.or(Some(now)),
            TaskState::Succeeded(success) if !matches!(before, TaskState::Succeeded(_)) => {
                // A success alone tells that it has started, too.
                self.started_at = self.started_at.or(Some(now));
                self.load_s += success.timings.load.as_secs_f64();
                self.run_s += success.timings.run.as_secs_f64();
            }
            TaskState::Failed { error, .. } if self.error.is_none() => {
                self.error = Some((after.id.index, error.clone()));
            }
            _ => {}
        }
    }

    fn count(&mut self, state: &TaskState) -> Option<&mut u32> {
        match state {
            TaskState::Waiting { .. } => None,
            TaskState::Released { .. } => Some(&mut self.counts.released),
            TaskState::Running(_) => Some(&mut self.counts.running),
            TaskState::Succeeded(_) => Some(&mut self.counts.succeeded),
            TaskState::Failed { .. } => Some(&mut self.counts.failed),
            TaskState::Cancelled { .. } => Some(&mut self.counts.cancelled),
        }
    }

    /// The next version of the row.
    pub(super) fn close(&mut self, now: Timestamp) {
        self.version += 1;
        let started = if self.started_at.is_some() { EverStarted::Yes } else { EverStarted::No };
        self.status = self.counts.status(started);
        if self.status.is_terminal() {
            self.finished_at = self.finished_at.or(Some(now));
        }
    }

    pub(super) fn row(&self) -> Vec<Value> {
        let counts = &self.counts;
        set![
            self.id,
            self.status.as_str(),
            self.version,
            self.next_index,
            self.unreleased,
            counts.released,
            counts.running,
            counts.succeeded,
            counts.failed,
            counts.cancelled,
            self.started_at,
            self.finished_at,
            self.error.as_ref().map(|(index, _)| *index),
            self.error.as_ref().map(|(_, error)| json(error)),
            self.load_s,
            self.run_s,
        ]
    }

    /// The class of its tasks.
    pub(in crate::transaction) fn class(&self) -> String {
        class_of(&self.key)
    }
}
