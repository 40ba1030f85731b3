//! `POST /v1/jobs`: takes a job.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use springtide_core::JobId;
use springtide_core::api::{JobView, SubmitJob};
use springtide_store::Error as StoreError;
use springtide_store::port::{Idempotency, JobRow};
use tokio::time::{Instant, timeout_at};

use super::check::{Bounds, check};
use super::enter::{Entry, enter};
use super::view;
use crate::http::auth::{Allowed, Submit};
use crate::http::body::{RawJson, heavy, parse};
use crate::http::follow::Follower;
use crate::http::params::{self, Params};
use crate::http::problem::{Kind, Refusal, Result};
use crate::http::serve::Stopping;
use crate::http::{Api, Shared};
use crate::models::hex;

/// The longest idempotency key.
const MAX_KEY: usize = 255;

/// How to be answered.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitParams {
    /// Hold the reply until the job has ended or so many seconds are over.
    pub wait_s: Option<f64>,
}

/// Takes a job. Once it is answered it is durable.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "jobs",
    params(
        SubmitParams,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the same job; kept for 24 hours"),
    ),
    request_body = SubmitJob,
    responses((status = 202, description = "The job, taken or as it stands", body = JobView,
        headers(("Location" = String, description = "The job")))),
)]
pub async fn submit(
    State(api): State<Shared>,
    allowed: Allowed<Submit>,
    Params(params): Params<SubmitParams>,
    stopping: Stopping,
    headers: HeaderMap,
    RawJson { body, room: _room }: RawJson,
) -> Result<impl IntoResponse> {
    let wait = wait(&api, &params)?;
    let idempotency = idempotency(&headers, &[&body])?;
    let app = &api.app;
    let body_bytes = body.len();
    let job: SubmitJob = heavy(body_bytes, move || parse(&body)).await?;
    let manifest = app.models.get(&*app.store, &job.model).await.map_err(no_such_model)?;
    let checking = Arc::clone(app);
    let checked = heavy(body_bytes, move || {
        let bounds = Bounds { config: &checking.config, lanes: &checking.lanes, manifest: &manifest };
        Ok(check(job, &bounds, || checking.random.number())?)
    })
    .await?;
    let entry = Entry { id: app.new_job_id(), owner: allowed.owner, idempotency, checked, body_bytes };
    let mut row = enter(app, entry).await?;
    if let Some(until) = wait {
        row = until_done(&api, row.id, until, &stopping).await?;
    }
    Ok(accepted(view::job_with_outputs(app, row).await?))
}

/// The reply to what makes or changes a job.
pub fn accepted(view: JobView) -> impl IntoResponse {
    (StatusCode::ACCEPTED, [(header::LOCATION, view::location(view.id))], Json(view))
}

/// Until when to hold the reply.
fn wait(api: &Api, params: &SubmitParams) -> Result<Option<Instant>> {
    let Some(given) = params.wait_s else { return Ok(None) };
    let most = api.app.config.max_wait;
    // More than is granted is no fault: whoever waits has to look again anyway.
    let wait = params::seconds(given, 0.0, 86_400.0).map_err(|message| {
        Refusal::new(Kind::Malformed, format!("the query parameter `wait_s` {message}"))
    })?;
    Ok((wait > Duration::ZERO).then(|| Instant::now() + wait.min(most)))
}

/// The idempotency key of a request, with the hash of what it asks for.
pub fn idempotency(headers: &HeaderMap, asked: &[&[u8]]) -> Result<Option<Idempotency>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > MAX_KEY {
        let detail =
            format!("the header Idempotency-Key has to have 1 to {MAX_KEY} visible ASCII characters");
        return Err(Refusal::new(Kind::Malformed, detail));
    }
    let mut hash = Sha256::new();
    for part in asked {
        hash.update(part);
    }
    Ok(Some(Idempotency { key: key.to_owned(), body_sha256: hex(&hash.finalize()) }))
}

/// The job once it has ended, or as it stands when the time is up.
async fn until_done(api: &Api, job: JobId, until: Instant, stopping: &Stopping) -> Result<JobRow> {
    let mut follower = Follower::new(&api.app, &api.followed, job);
    let mut row = api.app.store.job(job).await?;
    while !row.status.is_terminal() {
        let over = tokio::select! {
            changed = timeout_at(until, follower.changed()) => changed.is_err(),
            () = stopping.requested() => true,
        };
        // Read once more at the end: what came in between is told.
        row = api.app.store.job(job).await?;
        if over {
            break;
        }
    }
    Ok(row)
}

fn no_such_model(error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound { .. } => {
            let hint =
                "`springtide models list` shows those that there are, `springtide models push DIR` adds one";
            Refusal::field("model", format!("{error}; {hint}"))
        }
        other => other.into(),
    }
}
