//! `POST /v1/leases/{name}`: leadership of what is outside the control plane, with fencing tokens.

use axum::Json as Reply;
use axum::extract::State;
use springtide_core::api::{LeaseGrant, LeaseWish};
use springtide_store::port::LeaseRequest;

use super::Shared;
use super::auth::{Allowed, Operate};
use super::body::Json;
use super::params::{self, Id, Name};
use super::problem::{Kind, Refusal, Result};
use crate::leader::LEASE;
use crate::models::PUSH_LEASE;

/// Who wants a lease longer than this should renew it.
const MAX_LEASE_S: f64 = 3600.0;
const MAX_HOLDER: usize = 200;

/// Takes, renews or gives up (`duration_s` 0) a lease. It was granted if the answer names whoever asked.
#[utoipa::path(
    post,
    path = "/v1/leases/{name}",
    tag = "cluster",
    params(("name" = String, Path, description = "The lease")),
    request_body = LeaseWish,
    responses((status = 200, description = "The lease as it stands", body = LeaseGrant)),
)]
pub async fn wish(
    State(api): State<Shared>,
    _: Allowed<Operate>,
    Id(Name(name)): Id<Name>,
    Json(wish): Json<LeaseWish>,
) -> Result<Reply<LeaseGrant>> {
    if name == LEASE || name == PUSH_LEASE {
        let detail = format!("the lease `{name}` is the control plane's own");
        return Err(Refusal::new(Kind::Forbidden, detail));
    }
    if wish.holder.is_empty() || wish.holder.len() > MAX_HOLDER {
        return Err(Refusal::field("holder", format!("has to have 1 to {MAX_HOLDER} bytes")));
    }
    let duration = params::seconds(wish.duration_s, 0.0, MAX_LEASE_S)
        .map_err(|message| Refusal::field("duration_s", message))?;
    let request = LeaseRequest { name, holder: wish.holder, duration, now: api.app.now() };
    let lease = api.app.store.lease(&request).await?;
    Ok(Reply(LeaseGrant { holder: lease.holder, token: lease.token, expires_at: lease.expires_at }))
}
