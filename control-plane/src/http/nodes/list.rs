//! `GET /v1/nodes`: the nodes that are not gone.

use axum::Json;
use axum::extract::State;
use springtide_core::api::{NodeView, Page};

use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::params::{PageParams, Params, page};
use crate::http::problem::Result;

/// The nodes that are not gone, by id, with what was heard of each last.
#[utoipa::path(
    get,
    path = "/v1/nodes",
    tag = "nodes",
    params(PageParams),
    responses((status = 200, description = "A page of nodes", body = Page<NodeView>)),
)]
pub async fn list(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<NodeView>>> {
    let cursor = page(&api.app.config, params.cursor, params.limit)?;
    let mut rows = api.app.store.nodes(api.app.now()).await?;
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows.retain(|row| cursor.after.as_deref().is_none_or(|after| row.id.as_str() > after));
    let more = rows.len() > cursor.limit as usize;
    rows.truncate(cursor.limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.id.to_string());
    let items = rows.iter().map(|row| api.app.node_view(row)).collect();
    Ok(Json(Page { items, next_cursor }))
}
