//! `PUT /v1/launches/{id}`: the autoscaler's durable intents.

use axum::Json as Reply;
use axum::extract::State;
use serde_json::json;
use springtide_core::api::{LaunchView, PutLaunch};
use springtide_store::port::{Fence, LaunchRow};

use super::Shared;
use super::auth::{Allowed, Operate};
use super::body::Json;
use super::params::{Id, Name};
use super::problem::{Refusal, Result};
use crate::cluster::launch_view;

const MAX_POOL: usize = 100;

/// Writes a launch, or what became of it. Harmless to repeat; another request under the same id is a conflict.
#[utoipa::path(
    put,
    path = "/v1/launches/{id}",
    tag = "cluster",
    params(("id" = String, Path, description = "The launch: the cloud's idempotency token")),
    request_body = PutLaunch,
    responses((status = 200, description = "The launch", body = LaunchView)),
)]
pub async fn put(
    State(api): State<Shared>,
    _: Allowed<Operate>,
    Id(Name(id)): Id<Name>,
    Json(launch): Json<PutLaunch>,
) -> Result<Reply<LaunchView>> {
    if launch.pool.is_empty() || launch.pool.len() > MAX_POOL {
        return Err(Refusal::field("pool", format!("has to have 1 to {MAX_POOL} bytes")));
    }
    let fence = match (launch.lease, launch.token) {
        (Some(name), Some(token)) => Some(Fence { name, token }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(Refusal::field("token", "is missing: a lease is shown with its token"));
        }
        (None, Some(_)) => return Err(Refusal::field("lease", "is missing: the token needs its lease")),
    };
    let now = api.app.now();
    let row = LaunchRow {
        id,
        pool: launch.pool,
        body: json!({ "request": launch.request, "outcome": launch.outcome }),
        open: !launch.closed,
        created_at: now,
        changed_at: now,
    };
    Ok(Reply(launch_view(api.app.store.put_launch(fence.as_ref(), row).await?)))
}
