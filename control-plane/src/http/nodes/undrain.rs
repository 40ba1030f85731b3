//! `POST /v1/nodes/{id}/undrain`: has a node take tasks again.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use springtide_core::NodeId;
use springtide_core::api::NodeView;
use springtide_core::node::NodeEvent;

use super::change;
use crate::http::Shared;
use crate::http::auth::{Allowed, Operate};
use crate::http::body::OptionalJson;
use crate::http::params::Id;
use crate::http::problem::Result;

/// Nothing is to be said.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Has a draining or empty node take tasks again.
#[utoipa::path(
    post,
    path = "/v1/nodes/{id}/undrain",
    tag = "nodes",
    params(("id" = String, Path, description = "The node")),
    responses((status = 200, description = "The node", body = NodeView)),
)]
pub async fn undrain(
    State(api): State<Shared>,
    _: Allowed<Operate>,
    Id(id): Id<NodeId>,
    OptionalJson(Nothing {}): OptionalJson<Nothing>,
) -> Result<Json<NodeView>> {
    change(&api.app, &id, NodeEvent::Undrain, None).await.map(Json)
}
