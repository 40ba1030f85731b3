//! `POST /v1/jobs/{id}/retry`: the failed tasks once more, as a new job.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use springtide_core::JobId;
use springtide_core::api::JobView;
use springtide_store::port::{JobInput, JobSpec};

use super::check::{Checked, Tasks};
use super::enter::{Entry, enter};
use super::submit::{accepted, idempotency};
use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Submit};
use crate::http::params::Id;
use crate::http::problem::{Kind, Refusal, Result};

/// Makes a new job of the failed tasks of this one, with the same inputs and seeds.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/retry",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same new job; kept for 24 hours"),
    ),
    responses((status = 202, description = "The new job", body = JobView)),
)]
pub async fn retry(
    State(api): State<Shared>,
    allowed: Allowed<Submit>,
    Id(id): Id<JobId>,
    headers: HeaderMap,
) -> Result<impl IntoResponse> {
    let app = &api.app;
    let idempotency = idempotency(&headers, &[b"retry ", id.to_string().as_bytes()])?;
    let (source, ranges) = app.store.failed_ranges(id).await?;
    let count = ranges.iter().map(|range| range.count).sum();
    if count == 0 {
        return Err(Refusal::new(Kind::Conflict, format!("no task of the job `{id}` has failed")));
    }
    let old = app.store.job(id).await?.spec;
    let deadline = old.deadline.filter(|deadline| *deadline > app.now());
    let checked = again(old, deadline, JobInput::Again { source, ranges }, count);
    let entry = Entry { id: app.new_job_id(), owner: allowed.owner, idempotency, checked, body_bytes: 0 };
    let row = enter(app, entry).await?;
    Ok(accepted(view::job(app, row).await))
}

fn again(old: JobSpec, deadline: Option<springtide_core::Timestamp>, input: JobInput, count: u32) -> Checked {
    Checked {
        model: old.model,
        kind: old.kind,
        priority: old.priority,
        lane: old.lane,
        resources: old.resources,
        timeout: old.timeout,
        max_retries: old.max_retries,
        deadline,
        labels: old.labels,
        exclusive: old.exclusive,
        tasks: Tasks { input, count, outputs_per_task: old.outputs_per_task, units: old.units },
    }
}
