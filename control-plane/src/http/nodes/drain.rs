//! `POST /v1/nodes/{id}/drain`: has a node end what it has and take nothing new.

use axum::Json;
use axum::extract::State;
use springtide_core::NodeId;
use springtide_core::api::{DrainNode, NodeView};
use springtide_core::node::NodeEvent;

use super::change;
use crate::http::Shared;
use crate::http::auth::{Allowed, Operate};
use crate::http::body::OptionalJson;
use crate::http::params::{self, Id};
use crate::http::problem::{Refusal, Result};

/// A task may run for a day; a drain may wait for it, and for some more.
const MAX_DEADLINE_S: f64 = 7.0 * 24.0 * 3600.0;
const MAX_REASON: usize = 500;

/// A [`DrainNode`] that may be left out.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct Wish(DrainNode);

impl Default for Wish {
    fn default() -> Self {
        // What `{}` is read as.
        Self(DrainNode { deadline_s: 120.0, reason: String::new() })
    }
}

/// Has a node take no new task, and finish or hand back what it has before a deadline.
#[utoipa::path(
    post,
    path = "/v1/nodes/{id}/drain",
    tag = "nodes",
    params(("id" = String, Path, description = "The node")),
    request_body = Option<DrainNode>,
    responses((status = 200, description = "The node", body = NodeView)),
)]
pub async fn drain(
    State(api): State<Shared>,
    _: Allowed<Operate>,
    Id(id): Id<NodeId>,
    OptionalJson(Wish(wish)): OptionalJson<Wish>,
) -> Result<Json<NodeView>> {
    let deadline = params::seconds(wish.deadline_s, 0.0, MAX_DEADLINE_S)
        .map_err(|message| Refusal::field("deadline_s", message))?;
    if wish.reason.len() > MAX_REASON {
        return Err(Refusal::field("reason", format!("has more than {MAX_REASON} bytes")));
    }
    let event = NodeEvent::Drain { until: api.app.now() + deadline, reason: wish.reason };
    change(&api.app, &id, event, None).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_what_an_empty_object_means() {
        assert_eq!(serde_json::from_str::<DrainNode>("{}").unwrap(), Wish::default().0);
    }
}
