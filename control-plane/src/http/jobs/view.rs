//! Rows of the store as they are shown.

use springtide_core::JobId;
use springtide_core::api::{JobError, JobLinks, JobTimings, JobView, OutputView, TaskAttemptView, TaskView};
use springtide_core::wire::Output;
use springtide_core::{TaskError, TaskId};
use springtide_store::port::{AttemptRow, Cursor, JobRow, JobSpec, TaskFilter, TaskRow};

use crate::app::App;
use crate::http::outputs::url_of;
use crate::http::problem::Result;

/// Tasks of which the outputs stand in the job itself; the rest is at `links.outputs`.
const FIRST_PAGE: u32 = 100;

/// A job as it is shown, without outputs.
pub async fn job(app: &App, row: JobRow) -> JobView {
    let running = if row.counts.running > 0 { app.registry.progress_of_job(row.id) } else { 0.0 };
    JobView {
        eta_s: app.eta_s(&row).await,
        progress: row.counts.progress(running),
        timings: JobTimings {
            wait_s: row.started_at.map(|started| started.since(row.created_at).as_secs_f64()),
            load_s: row.timings.load_s,
            run_s: row.timings.run_s,
        },
        error: row.error.map(|(task, error)| failure(task, error)),
        links: JobLinks::of(row.id),
        outputs: Vec::new(),
        id: row.id,
        status: row.status,
        model: row.spec.model,
        priority: row.spec.priority,
        labels: row.spec.labels,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        deadline: row.spec.deadline,
        tasks: row.counts,
        version: row.version,
    }
}

/// A job as it is shown, with the first page of its outputs.
pub async fn job_with_outputs(app: &App, row: JobRow) -> Result<JobView> {
    let outputs = if row.counts.succeeded == 0 {
        Vec::new()
    } else {
        let page = Cursor { after: None, limit: FIRST_PAGE.min(app.config.page_limit) };
        let tasks = app.store.tasks(row.id, &TaskFilter::Succeeded, &page).await?;
        tasks.items.into_iter().flat_map(|task| outputs(&row.spec, task)).collect()
    };
    Ok(JobView { outputs, ..job(app, row).await })
}

/// The outputs of a task, each at its position in the job.
pub fn outputs(spec: &JobSpec, task: TaskRow) -> Vec<OutputView> {
    let first = u64::from(task.id.index) * u64::from(spec.outputs_per_task);
    let numbered = (first..).zip(task.outputs);
    numbered.map(|(index, output)| self::output(index, task.id, output)).collect()
}

fn output(index: u64, task: TaskId, output: Output) -> OutputView {
    let empty = OutputView {
        index,
        task,
        url: None,
        media_type: None,
        size_bytes: None,
        sha256: None,
        seed: None,
        outputs: None,
    };
    match output {
        Output::Inline(outputs) => OutputView { outputs: Some(outputs), ..empty },
        Output::Object { key, media_type, size_bytes, sha256, seed } => OutputView {
            url: Some(url_of(&key)),
            media_type: Some(media_type),
            size_bytes: Some(size_bytes),
            sha256: Some(sha256),
            seed,
            ..empty
        },
    }
}

fn failure(task: TaskId, error: TaskError) -> JobError {
    let message = if error.stderr_tail.is_empty() {
        error.message
    } else {
        format!("{}\nThe worker's last lines:\n{}", error.message, error.stderr_tail)
    };
    JobError { class: error.class, message, task }
}

/// A task as it is shown.
pub fn task(app: &App, row: TaskRow, attempts: Vec<AttemptRow>) -> TaskView {
    let progress = match (row.state, row.run) {
        ("succeeded", _) => 1.0,
        ("running", Some(run)) => app.registry.progress_of_run(row.id, run).unwrap_or(0.0),
        _ => 0.0,
    };
    TaskView {
        id: row.id,
        state: row.state.to_owned(),
        attempt: row.attempt,
        charges: row.charges,
        evictions: row.evictions,
        suspect: row.suspect,
        lane: row.lane,
        node: row.node,
        progress,
        released_at: row.released_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        load_s: row.timings.map(|timings| timings.load.as_secs_f64()),
        run_s: row.timings.map(|timings| timings.run.as_secs_f64()),
        error: row.error.map(|error| failure(row.id, error)),
        attempts: attempts.into_iter().map(attempt).collect(),
    }
}

fn attempt(row: AttemptRow) -> TaskAttemptView {
    TaskAttemptView {
        attempt: row.attempt,
        node: row.node,
        run: row.run,
        started_at: row.started_at,
        ended_at: row.ended_at,
        outcome: row.outcome,
        charged: row.charged,
        message: row.message,
    }
}

/// Where a job is found.
pub fn location(job: JobId) -> String {
    format!("/v1/jobs/{job}")
}
