//! `GET /metrics`: what Prometheus reads.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Shared;
use super::auth::{Allowed, Read};

/// The metrics, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "service",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(api): State<Shared>, _: Allowed<Read>) -> impl IntoResponse {
    if let Err(error) = api.app.refresh_gauges().await {
        // Counters and histograms are worth having just then.
        tracing::warn!(%error, "the gauges of the backlog are old");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], api.app.metrics.render())
}
