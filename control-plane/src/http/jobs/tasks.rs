//! `GET /v1/jobs/{id}/tasks`: a job's tasks with their history.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use springtide_core::JobId;
use springtide_core::api::{Page, TaskView};
use springtide_store::port::TaskFilter;

use super::view;
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::params::{Id, Params, bad_cursor, page};
use crate::http::problem::Result;

/// Which tasks.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TasksParams {
    /// `succeeded` or `failed`; all when it is not said.
    #[param(inline)]
    pub state: Option<Ended>,
    /// What the last page gave as `next_cursor`.
    pub cursor: Option<String>,
    /// At most this many items; 100 when it is not said.
    pub limit: Option<u32>,
}

/// How tasks have ended.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// With outputs.
    Succeeded,
    /// Given up.
    Failed,
}

/// The tasks of a job by their position: attempts, charges, nodes, timings, errors.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/tasks",
    tag = "jobs",
    params(("id" = String, Path, description = "The job"), TasksParams),
    responses((status = 200, description = "A page of tasks", body = Page<TaskView>)),
)]
pub async fn tasks(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Id(id): Id<JobId>,
    Params(params): Params<TasksParams>,
) -> Result<Json<Page<TaskView>>> {
    let app = &api.app;
    let cursor = page(&app.config, params.cursor, params.limit)?;
    let filter = match params.state {
        None => TaskFilter::All,
        Some(Ended::Succeeded) => TaskFilter::Succeeded,
        Some(Ended::Failed) => TaskFilter::Failed,
    };
    let rows = app.store.tasks(id, &filter, &cursor).await.map_err(bad_cursor)?;
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        // Most tasks have none: their first attempt is on its way or did it.
        let has_history = row.attempt > 1 || row.charges > 0 || row.evictions > 0 || row.state == "failed";
        let attempts = if has_history { app.store.attempts(row.id).await? } else { Vec::new() };
        items.push(view::task(app, row, attempts));
    }
    Ok(Json(Page { items, next_cursor: rows.next }))
}
