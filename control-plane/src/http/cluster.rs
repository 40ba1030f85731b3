//! `GET /v1/cluster`: everything at once, for the autoscaler and for people.

use axum::Json;
use axum::extract::State;
use springtide_core::api::ClusterView;

use super::Shared;
use super::auth::{Allowed, Read};
use super::problem::Result;

/// One snapshot of work, nodes and launches.
#[utoipa::path(
    get,
    path = "/v1/cluster",
    tag = "cluster",
    responses((status = 200, description = "The cluster", body = ClusterView)),
)]
pub async fn cluster(State(api): State<Shared>, _: Allowed<Read>) -> Result<Json<ClusterView>> {
    Ok(Json(api.app.cluster_view().await?))
}
