//! `GET /v1/models/{name}`: one model.

use axum::Json;
use axum::extract::{Path, State};
use springtide_core::api::ModelView;

use super::{echo, view};
use crate::http::Shared;
use crate::http::auth::{Allowed, Read};
use crate::http::problem::Result;
use crate::models::Reference;

/// A model: `NAME` (its latest version) or `NAME@VERSION`.
#[utoipa::path(
    get,
    path = "/v1/models/{name}",
    tag = "models",
    params(("name" = String, Path, description = "`NAME` or `NAME@VERSION`")),
    responses((status = 200, description = "The model", body = ModelView)),
)]
pub async fn show(
    State(api): State<Shared>,
    _: Allowed<Read>,
    Path(name): Path<String>,
) -> Result<Json<ModelView>> {
    let reference = Reference::parse(&name)?;
    if reference.is_echo() {
        return Ok(Json(echo()));
    }
    let row = api.app.store.model(reference.name, reference.version).await?;
    view(row).map(Json)
}
