//! `POST /v1/jobs/{id}/cancel`: nobody wants it any more.

use axum::extract::State;
use axum::response::IntoResponse;
use springtide_core::JobId;
use springtide_core::api::JobView;

use super::submit::accepted;
use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Submit};
use crate::http::params::Id;
use crate::http::problem::Result;

/// Cancels what has not ended of a job. Harmless to repeat; a job that has ended stays as it is.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses((status = 202, description = "The job, cancelled or ended before", body = JobView)),
)]
pub async fn cancel(
    State(api): State<Shared>,
    _: Allowed<Submit>,
    Id(id): Id<JobId>,
) -> Result<impl IntoResponse> {
    let app = &api.app;
    let cancelled = app.store.cancel(id, app.now()).await?;
    app.changes.notify(id);
    app.rubbish.discard(cancelled.discard);
    app.stopping.stop(cancelled.stop, app.now());
    // What it held is free for others.
    app.publisher.nudge();
    let row = app.store.job(id).await?;
    Ok(accepted(view::job_with_outputs(app, row).await?))
}
