//! `springtide jobs`: lists jobs, newest first.

use clap::Args;
use springtide_client::{Client, JobFilter};
use springtide_core::api::{JobView, Page};
use springtide_core::job::JobStatus;

use super::key_value;
use crate::context::Context;
use crate::exit::Exit;
use crate::table::Table;
use crate::{say, when};

/// What one request asks for at most.
const PAGE: u32 = 200;

/// Arguments of `jobs`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only of this status: queued, running, succeeded, failed or cancelled
    #[arg(long, value_parser = status)]
    status: Option<JobStatus>,
    /// Only with this label
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Option<(String, String)>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

fn status(text: &str) -> Result<JobStatus, String> {
    JobStatus::from_name(text)
        .ok_or_else(|| "it has to be queued, running, succeeded, failed or cancelled".to_owned())
}

/// Runs `jobs`.
pub async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let page = listed(&context.client()?, arguments).await?;
    if context.json() {
        say::json(&page)?;
        return Ok(Exit::Succeeded);
    }
    let mut table =
        Table::new(&["ID", "STATUS", "MODEL", "PRIORITY", "DONE", "TASKS", "CREATED", "TOOK", "LABELS"]);
    let now = context.now();
    for job in &page.items {
        let took = job.finished_at.map(|finished| when::span(finished.since(job.created_at)));
        let labels = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        table.row([
            job.id.to_string(),
            job.status.as_str().to_owned(),
            job.model.to_string(),
            job.priority.as_str().to_owned(),
            format!("{:.0} %", job.progress * 100.0),
            tasks(job),
            when::ago(job.created_at, now),
            took.unwrap_or_default(),
            labels.join(","),
        ]);
    }
    table.print("no jobs");
    if page.next_cursor.is_some() {
        eprintln!("there are more; --limit shows them");
    }
    Ok(Exit::Succeeded)
}

async fn listed(client: &Client, arguments: &Arguments) -> anyhow::Result<Page<JobView>> {
    let filter = JobFilter { status: arguments.status, label: arguments.label.clone() };
    let mut all = Page { items: Vec::new(), next_cursor: None };
    loop {
        let left = arguments.limit.saturating_sub(u32::try_from(all.items.len())?);
        let page = client.jobs(&filter, all.next_cursor.as_deref(), left.clamp(1, PAGE)).await?;
        all.items.extend(page.items);
        all.next_cursor = page.next_cursor;
        if all.next_cursor.is_none() || all.items.len() >= arguments.limit as usize {
            all.items.truncate(arguments.limit as usize);
            return Ok(all);
        }
    }
}

fn tasks(job: &JobView) -> String {
    let counts = &job.tasks;
    let failed = if counts.failed > 0 { format!(" ({} failed)", counts.failed) } else { String::new() };
    format!("{}/{}{failed}", counts.succeeded + counts.failed + counts.cancelled, counts.total)
}
