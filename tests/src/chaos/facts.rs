//! All that there is to know of the jobs at the end: by HTTP, as users see it, and from the store, what users don't see.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use springtide_client::Client;
use springtide_core::api::{JobView, OutputView, Page, TaskView};
use springtide_core::{JobId, TaskId};
use springtide_store::port::{Cursor, TaskFilter, TaskRow};

use super::house::House;
use super::load::{Kind, PlannedJob};
use super::records::Accepted;
use super::waste::Won;

/// Jobs asked for at once.
const AT_ONCE: usize = 8;
/// Tries of each request, at one control plane after the other.
const TRIES: usize = 20;

/// A job and what became of it.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// As planned.
    pub planned: PlannedJob,
    /// When it was accepted, and so on.
    pub accepted: Accepted,
    /// As shown.
    pub view: JobView,
    /// Its tasks, as shown.
    pub tasks: Vec<TaskView>,
    /// Its outputs, as shown.
    pub outputs: Vec<OutputView>,
    /// Its tasks, as stored.
    pub rows: Vec<TaskRow>,
}

/// Asks for all of it.
pub async fn gather(house: &House, jobs: &[PlannedJob]) -> Result<Vec<JobFacts>> {
    let accepted = house.records.open().accepted.clone();
    let each = futures::stream::iter(accepted).map(async |accepted| {
        let id = accepted.id;
        let view = ask(house, async |client| client.job(id).await).await?;
        let tasks = pages(house, async |client, cursor| client.tasks(id, cursor).await).await?;
        let outputs = pages(house, async |client, cursor| client.outputs(id, cursor).await).await?;
        let rows = rows(house, id).await?;
        let planned = jobs.get(accepted.number).context("a job that was not planned")?.clone();
        anyhow::Ok(JobFacts { planned, accepted, view, tasks, outputs, rows })
    });
    each.buffer_unordered(AT_ONCE).try_collect().await
}

/// Asks until one of the control planes answers.
async fn ask<T>(
    house: &House,
    question: impl AsyncFn(&Client) -> Result<T, springtide_client::Error>,
) -> Result<T> {
    let mut last = None;
    for turn in 0..TRIES {
        match question(&house.clients[turn % house.clients.len()]).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    match last {
        Some(error) => Err(error).context("no control plane answers"),
        None => bail!("there is no control plane"),
    }
}

async fn pages<T>(
    house: &House,
    question: impl AsyncFn(&Client, Option<&str>) -> Result<Page<T>, springtide_client::Error>,
) -> Result<Vec<T>> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = ask(house, async |client| question(client, cursor.as_deref()).await).await?;
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}

async fn rows(house: &House, job: JobId) -> Result<Vec<TaskRow>> {
    let store = Arc::clone(&house.store);
    let mut rows = Vec::new();
    let mut cursor = Cursor { after: None, limit: 500 };
    loop {
        let page = store.tasks(job, &TaskFilter::All, &cursor).await?;
        rows.extend(page.items);
        cursor.after = page.next;
        if cursor.after.is_none() {
            return Ok(rows);
        }
    }
}

/// The winning runs.
pub fn won(facts: &[JobFacts]) -> BTreeMap<TaskId, Won> {
    let mut won = BTreeMap::new();
    for job in facts {
        let checkpoints = job.planned.kind == Kind::Pictures;
        for row in job.rows.iter().filter(|row| row.state == "succeeded") {
            if let Some((run, at)) = row.run.zip(row.ended_at) {
                won.insert(row.id, Won { run, at, checkpoints });
            }
        }
    }
    won
}
