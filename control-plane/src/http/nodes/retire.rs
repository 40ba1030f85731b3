//! `POST /v1/nodes/{id}/retire`: commits, before the cloud is asked, that a node is terminated.

use axum::Json as Reply;
use axum::extract::State;
use springtide_core::NodeId;
use springtide_core::api::{NodeView, RetireNode};
use springtide_core::node::{NodeEvent, NodeState};
use springtide_store::port::{Fence, NodeRow};

use super::change;
use crate::http::Shared;
use crate::http::auth::{Allowed, Operate};
use crate::http::body::Json;
use crate::http::params::Id;
use crate::http::problem::{Kind, Refusal, Result};

/// Commits that a node is about to be terminated. Irreversible, fenced by a lease; the node has to be empty or lost,
/// past the deadline of its drain, or never heard.
#[utoipa::path(
    post,
    path = "/v1/nodes/{id}/retire",
    tag = "nodes",
    params(("id" = String, Path, description = "The node")),
    request_body = RetireNode,
    responses((status = 200, description = "The node", body = NodeView)),
)]
pub async fn retire(
    State(api): State<Shared>,
    _: Allowed<Operate>,
    Id(id): Id<NodeId>,
    Json(RetireNode { lease, token, lane, pool }): Json<RetireNode>,
) -> Result<Reply<NodeView>> {
    let app = &api.app;
    let now = app.now();
    let node = app.store.nodes(now).await?.into_iter().find(|row| row.id == id);
    if let Some(NodeState::Draining { until, .. }) = node.as_ref().map(|row| &row.state)
        && *until > now
    {
        let detail = format!("the node `{id}` drains until {until}; retire it when it is empty, or then");
        return Err(Refusal::new(Kind::Conflict, detail));
    }
    let fence = Fence { name: lease, token };
    if let (None, Some(lane)) = (&node, lane) {
        let launching = NodeRow {
            id: id.clone(),
            incarnation: None,
            state: NodeState::Launching,
            lane,
            pool,
            slots: 0,
            first_seen: now,
            changed_at: now,
        };
        app.store.expect_node(&fence, &launching).await?;
    }
    change(app, &id, NodeEvent::Retire, Some(&fence)).await.map(Reply)
}
