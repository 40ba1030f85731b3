//! `GET /v1/models`: each model at its latest version, or all versions of one.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use springtide_core::api::{ModelView, Page};

use super::{echo, view};
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::params::{Params, page};
use crate::http::problem::Result;

/// Which models.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// All versions of this one, instead of the latest of each.
    pub name: Option<String>,
    /// What the last page gave as `next_cursor`.
    pub cursor: Option<String>,
    /// At most this many items; 100 when it is not said.
    pub limit: Option<u32>,
}

/// The models, by name and version; `echo` is built in.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "models",
    params(ListParams),
    responses((status = 200, description = "A page of models", body = Page<ModelView>)),
)]
pub async fn list(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<ModelView>>> {
    let cursor = page(&api.app.config, params.cursor, params.limit)?;
    let rows = api.app.store.models(params.name.as_deref()).await?;
    let mut items = rows.into_iter().map(view).collect::<Result<Vec<_>>>()?;
    items.push(echo());
    items.retain(|model| params.name.as_deref().is_none_or(|name| model.id.name() == name));
    items.sort_by(|a, b| a.id.cmp(&b.id));
    items.retain(|model| cursor.after.as_deref().is_none_or(|after| *model.id.to_string() > *after));
    let more = items.len() > cursor.limit as usize;
    items.truncate(cursor.limit as usize);
    let next_cursor = items.last().filter(|_| more).map(|model| model.id.to_string());
    Ok(Json(Page { items, next_cursor }))
}
