//! `GET /v1/jobs/{id}`: one job as it stands.

use axum::Json;
use axum::extract::State;
use springtide_core::JobId;
use springtide_core::api::JobView;

use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::params::Id;
use crate::http::problem::Result;

/// One job, with the first page of its outputs.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses((status = 200, description = "The job", body = JobView)),
)]
pub async fn show(State(api): State<Shared>, _: Allowed<Read>, Id(id): Id<JobId>) -> Result<Json<JobView>> {
    let row = api.app.store.job(id).await?;
    view::job_with_outputs(&api.app, row).await.map(Json)
}
