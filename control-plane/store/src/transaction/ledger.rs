//! The jobs and tasks that a transaction works on: loaded and locked once, changed in memory, written back once.
//!
//! Whatever happens to a task goes through [`Ledger::settle`], so the counters of its job, the backlog and the
//! history follow from one comparison of the task before and after.

pub(super) mod job;
pub(super) mod task;

use std::collections::BTreeMap;

use springtide_core::job::JobStatus;
use springtide_core::task::{RetryPolicy, Task, TaskState};
use springtide_core::wire::TaskEvent;
use springtide_core::{JobId, TaskId, Timestamp};

use super::Tx;
use super::backlog::Tally;
use super::hold;
use crate::connection::{Value, set, values};
use crate::port::HoldState;
use crate::{Error, Result};
use job::JobEntry;
use task::TaskEntry;

/// See the module.
pub(super) struct Ledger {
    now: Timestamp,
    jobs: BTreeMap<JobId, JobEntry>,
    tasks: BTreeMap<TaskId, TaskEntry>,
    /// What was said about the keys that tasks have.
    holds: hold::Changed,
    history: Vec<Vec<Value>>,
}

impl Ledger {
    /// Nothing yet.
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            now,
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            holds: hold::Changed::new(),
            history: Vec::new(),
        }
    }

    /// Loads and locks jobs. `jobs` are in order, each once; those that do not exist are left out.
    pub(super) async fn load_jobs(
        &mut self,
        tx: &mut Tx<'_>,
        jobs: impl IntoIterator<Item = JobId>,
    ) -> Result<()> {
        let sets: Vec<_> = jobs.into_iter().map(|job| set![job]).collect();
        for row in tx.query_each(job::LOAD, &sets).await?.into_iter().flatten() {
            let entry = JobEntry::read(row)?;
            self.jobs.insert(entry.id, entry);
        }
        Ok(())
    }

    /// Loads tasks of jobs that are loaded. Those without a row are left out.
    pub(super) async fn load_tasks(
        &mut self,
        tx: &mut Tx<'_>,
        tasks: impl IntoIterator<Item = TaskId>,
    ) -> Result<()> {
        let known = tasks.into_iter().filter(|task| self.jobs.contains_key(&task.job));
        let sets: Vec<_> = known.map(|task| set![task.job, task.index]).collect();
        for row in tx.query_each(task::LOAD, &sets).await?.into_iter().flatten() {
            self.keep_task(task::TaskEntry::read(row)?);
        }
        Ok(())
    }

    /// Loads all tasks of a job that wait, are released or run, and have a row.
    pub(super) async fn load_open_tasks(&mut self, tx: &mut Tx<'_>, job: JobId) -> Result<Vec<TaskId>> {
        let mut found = Vec::new();
        for row in tx.query(task::LOAD_OPEN, &values![job]).await? {
            let entry = TaskEntry::read(row)?;
            found.push(entry.task.id);
            self.keep_task(entry);
        }
        Ok(found)
    }

    fn keep_task(&mut self, mut entry: TaskEntry) {
        let exclusive = self.jobs.get(&entry.task.id.job).is_some_and(|job| job.exclusive_key.is_some());
        entry.task.exclusive = exclusive;
        self.tasks.insert(entry.task.id, entry);
    }

    /// A job that was loaded.
    pub(super) fn job(&self, job: JobId) -> Option<&JobEntry> {
        self.jobs.get(&job)
    }

    /// How failures of a job's tasks are answered: what the job asked for, over what holds in general.
    pub(super) fn policy_of(&self, job: JobId, general: &RetryPolicy) -> RetryPolicy {
        let max_retries = self.jobs.get(&job).map_or(general.max_retries, |job| job.max_retries);
        RetryPolicy { max_retries, ..*general }
    }

    /// The task as it is now.
    pub(super) fn task(&self, task: TaskId) -> Option<&Task> {
        self.tasks.get(&task).map(|entry| &entry.task)
    }

    /// Takes the next task without a row out of a job's range. It waits, until it is settled.
    pub(super) fn draw(&mut self, job: JobId) -> Option<Task> {
        let entry = self.jobs.get_mut(&job).filter(|entry| entry.unreleased > 0)?;
        let id = TaskId { job, index: entry.next_index };
        entry.next_index += 1;
        entry.unreleased -= 1;
        let task = Task::new(id, entry.exclusive_key.is_some(), self.now);
        self.tasks.insert(id, TaskEntry::new(task.clone()));
        Some(task)
    }

    /// Cancels the range of tasks without a row, at once.
    pub(super) fn cancel_range(&mut self, tx: &mut Tx<'_>, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let count = std::mem::take(&mut entry.unreleased);
        if count > 0 {
            entry.counts.cancelled += count;
            entry.changed = true;
            let waiting = TaskState::Waiting { not_before: self.now };
            tx.count(&entry.key, &waiting, Tally::of(-i64::from(count), entry.units));
        }
    }

    /// The task has become this.
    pub(super) fn settle(&mut self, tx: &mut Tx<'_>, after: Task) -> Result<()> {
        let missing = || Error::Broken(format!("task {} was not loaded", after.id));
        let entry = self.tasks.get_mut(&after.id).ok_or_else(missing)?;
        let job = self.jobs.get_mut(&after.id.job).ok_or_else(missing)?;
        let before = &entry.task.state;
        job.changed = true;
        job.note(before, &after, self.now);
        tx.count(&job.key, before, Tally::of(-1, job.units));
        tx.count(&job.key, &after.state, Tally::of(1, job.units));
        entry.become_task(after);
        Ok(())
    }

    /// Notes what an event says about its task's key, if it has one. Whether the run is over by that.
    pub(super) fn note_hold(&mut self, event: &TaskEvent) -> bool {
        let (Some(job), Some(entry)) = (self.jobs.get(&event.task.job), self.tasks.get(&event.task)) else {
            return false;
        };
        let Some(key) = &job.exclusive_key else { return false };
        let Some(state) = hold::said_by(event, &entry.task, entry.trail.run) else { return false };
        let over = state == HoldState::Over;
        let noted = self.holds.entry(key.clone()).or_insert((event.task, state));
        if over {
            *noted = (event.task, state);
        }
        over
    }

    /// An attempt ended without success: how the task was then, and what is to be remembered of it.
    pub(super) fn remember(&mut self, before: &Task, ending: Ending) {
        self.history.push(task::attempt_row(before, ending, self.now));
    }

    /// Writes all back. The jobs that changed, with their new version and status.
    pub(super) async fn save(self, tx: &mut Tx<'_>) -> Result<Vec<(JobId, u64, JobStatus)>> {
        let Self { now, jobs, tasks, holds, history } = self;
        let changed_tasks = tasks.values().filter(|entry| entry.changed);
        let rows: Vec<_> = changed_tasks.map(|entry| entry.row(now, jobs.get(&entry.task.id.job))).collect();
        let mut changed = Vec::new();
        let mut job_rows = Vec::new();
        for mut job in jobs.into_values().filter(|job| job.changed) {
            job.close(now);
            changed.push((job.id, job.version, job.status));
            job_rows.push(job.row());
        }
        tx.execute_each(job::SAVE, &job_rows).await?;
        tx.execute_each(task::SAVE, &rows).await?;
        tx.execute_each(task::REMEMBER, &history).await?;
        hold::save(tx, holds).await?;
        Ok(changed)
    }
}

/// How an attempt ended that did not succeed.
pub(super) struct Ending {
    /// `failed`, `returned: <reason>`, `evicted`, `republished`.
    pub(super) outcome: String,
    /// Whether it was charged.
    pub(super) charged: bool,
    /// What was said.
    pub(super) message: String,
    /// The worker's last words.
    pub(super) stderr_tail: String,
    /// The run and node, where the task's own state does not have them.
    pub(super) run: Option<springtide_core::RunId>,
    pub(super) node: Option<springtide_core::NodeId>,
}

/// Whether the task is with the broker or a node.
pub(super) const fn is_in_flight(state: &TaskState) -> bool {
    matches!(state, TaskState::Released { .. } | TaskState::Running(_))
}
