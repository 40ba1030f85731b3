//! `GET /v1/jobs/{id}/outputs`: a job's outputs, page by page.

use axum::Json;
use axum::extract::State;
use springtide_core::JobId;
use springtide_core::api::{OutputView, Page};
use springtide_store::port::TaskFilter;

use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::params::{Id, PageParams, Params, bad_cursor, page};
use crate::http::problem::Result;

/// The outputs of a job's tasks that have succeeded, by their position in the job. A page is made of whole tasks:
/// `limit` counts these.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/outputs",
    tag = "jobs",
    params(("id" = String, Path, description = "The job"), PageParams),
    responses((status = 200, description = "A page of outputs", body = Page<OutputView>)),
)]
pub async fn outputs(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Id(id): Id<JobId>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<OutputView>>> {
    let cursor = page(&api.app.config, params.cursor, params.limit)?;
    let spec = api.app.store.job(id).await?.spec;
    let tasks = api.app.store.tasks(id, &TaskFilter::Succeeded, &cursor).await.map_err(bad_cursor)?;
    let items = tasks.items.into_iter().flat_map(|task| view::outputs(&spec, task)).collect();
    Ok(Json(Page { items, next_cursor: tasks.next }))
}
