//! Jobs as they are read: one, a page of them, their versions; and which of a job's tasks failed.

use async_trait::async_trait;
use springtide_core::JobId;
use springtide_core::job::TaskCounts;
use springtide_core::{TaskError, TaskId};

use super::backlog::priority_number;
use super::inputs::spec_from;
use super::ledger::job::status_of;
use super::{Transaction, Tx};
use crate::connection::{Row, Value, set, text, values};
use crate::port::{Cursor, JobFilter, JobInput, JobRow, JobTimings, Page, SourceRange};
use crate::{Error, Result};

macro_rules! columns {
    () => {
        "j.id, j.owner, s.spec, j.status, j.version, j.total, j.released, j.running, j.succeeded, \
         j.failed, j.cancelled, j.accepted_at, j.started_at, j.finished_at, j.error_index, j.error, j.load_s, j.run_s"
    };
}

fn read(row: &mut Row) -> Result<JobRow> {
    let id: JobId = row.take()?;
    let owner = row.take()?;
    let spec = spec_from(&row.take::<String>()?, None)?;
    let status = status_of(&row.take::<String>()?)?;
    let version = row.take()?;
    let total: u32 = row.take()?;
    let mut counts = TaskCounts {
        total,
        waiting: 0,
        released: row.take()?,
        running: row.take()?,
        succeeded: row.take()?,
        failed: row.take()?,
        cancelled: row.take()?,
    };
    let elsewhere = counts.released + counts.running + counts.succeeded + counts.failed + counts.cancelled;
    counts.waiting = total.saturating_sub(elsewhere);
    let created_at = row.take()?;
    let started_at: Option<springtide_core::Timestamp> = row.take()?;
    let finished_at = row.take()?;
    let error_index: Option<u32> = row.take()?;
    let error: Option<TaskError> = row.optional_json()?;
    let wait_s = started_at.map_or(0.0, |started| started.since(created_at).as_secs_f64());
    let timings = JobTimings { wait_s, load_s: row.take()?, run_s: row.take()? };
    let error = error_index.zip(error).map(|(index, error)| (TaskId { job: id, index }, error));
    Ok(JobRow {
        id,
        owner,
        spec,
        counts,
        status,
        version,
        created_at,
        started_at,
        finished_at,
        error,
        timings,
    })
}

fn not_found(job: JobId) -> Error {
    Error::NotFound { kind: "job", id: job.to_string() }
}

/// [`crate::Store::job`].
pub(crate) struct GetJob(pub(crate) JobId);

#[async_trait]
impl Transaction for GetJob {
    type Output = JobRow;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<JobRow> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", s.input FROM jobs j JOIN job_specs s ON s.job = j.id WHERE j.id = $1"
        );
        let mut row = tx.query_one(sql, &values![self.0]).await?.ok_or_else(|| not_found(self.0))?;
        let mut job = read(&mut row)?;
        if let Some(input) = row.optional_json()? {
            job.spec.input = input;
        }
        Ok(job)
    }
}

/// [`crate::Store::job_versions`].
pub(crate) struct Versions(pub(crate) Vec<JobId>);

#[async_trait]
impl Transaction for Versions {
    type Output = Vec<Option<u64>>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<Option<u64>>> {
        let sets: Vec<_> = self.0.iter().map(|job| set![job]).collect();
        let found = tx.query_each("SELECT version FROM jobs WHERE id = $1", &sets).await?;
        found.into_iter().map(|rows| rows.into_iter().next().map(|mut row| row.take()).transpose()).collect()
    }
}

/// [`crate::Store::jobs`].
pub(crate) struct ListJobs {
    pub(crate) filter: JobFilter,
    pub(crate) page: Cursor,
}

impl ListJobs {
    /// The statement for these filters, and its values. One more row is asked for: it tells whether there is more.
    fn statement(&self) -> (String, Vec<Value>) {
        let mut sql =
            String::from(concat!("SELECT ", columns!(), " FROM jobs j JOIN job_specs s ON s.job = j.id"));
        let mut values = Vec::new();
        let mut conditions = Vec::new();
        let mut needs = |condition: &str, value: Value| {
            values.push(value);
            conditions.push(format!("{condition} ${}", values.len()));
        };
        let JobFilter { status, label, model, priority } = &self.filter;
        if let Some((name, value)) = label {
            sql.push_str(" JOIN job_labels l ON l.job = j.id");
            needs("l.name =", text(name));
            needs("l.value =", text(value));
        }
        if let Some(status) = status {
            needs("j.status =", status.as_str().into());
        }
        if let Some(model) = model {
            needs("j.model =", model.into());
        }
        if let Some(priority) = priority {
            needs("j.priority =", priority_number(*priority).into());
        }
        if let Some(after) = &self.page.after {
            needs("j.id <", text(after));
            if label.is_some() {
                needs("l.job <", text(after));
            }
        }
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        values.push((u64::from(self.page.limit) + 1).into());
        let order = if label.is_some() { "l.job" } else { "j.id" };
        (format!("{sql} ORDER BY {order} DESC LIMIT ${}", values.len()), values)
    }
}

#[async_trait]
impl Transaction for ListJobs {
    type Output = Page<JobRow>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Page<JobRow>> {
        if let Some(after) = &self.page.after {
            after
                .parse::<JobId>()
                .map_err(|_| Error::Conflict(format!("`{after}` is no cursor of a list of jobs")))?;
        }
        let (sql, values) = self.statement();
        let rows = tx.query(&sql, &values).await?;
        let mut items = rows.into_iter().map(|mut row| read(&mut row)).collect::<Result<Vec<_>>>()?;
        let more = items.len() > self.page.limit as usize;
        items.truncate(self.page.limit as usize);
        let next = items.last().filter(|_| more).map(|job| job.id.to_string());
        Ok(Page { items, next })
    }
}

/// [`crate::Store::failed_ranges`].
pub(crate) struct FailedRanges(pub(crate) JobId);

#[async_trait]
impl Transaction for FailedRanges {
    type Output = (JobId, Vec<SourceRange>);

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(JobId, Vec<SourceRange>)> {
        let found = tx.query_one("SELECT input FROM job_specs WHERE job = $1", &values![self.0]).await?;
        let mut row = found.ok_or_else(|| not_found(self.0))?;
        let (source, origin) = match row.optional_json()? {
            Some(JobInput::Again { source, ranges }) => (source, Some(ranges)),
            _ => (self.0, None),
        };
        let failed = tx
            .query("SELECT idx FROM tasks WHERE job = $1 AND state = 'failed' ORDER BY idx", &values![self.0])
            .await?;
        let mut ranges: Vec<SourceRange> = Vec::new();
        for mut row in failed {
            let index: u32 = row.take()?;
            let start = match &origin {
                Some(ranges) => JobInput::source_index(ranges, index)
                    .ok_or_else(|| Error::Broken(format!("task {}/{index} has no source", self.0)))?,
                None => index,
            };
            match ranges.last_mut() {
                Some(range) if range.start + range.count == start => range.count += 1,
                _ => ranges.push(SourceRange { start, count: 1 }),
            }
        }
        Ok((source, ranges))
    }
}
