//! The autoscaler's own endpoints: `/healthz`, `/readyz`, `/metrics` and `POST /v1/alerts`.

mod alerts;

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::json;
use springtide_process::clock::SharedClock;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::shared::Shared;

/// Bodies of alerts that may be read at once.
const READERS: usize = 4;

/// What endpoints share.
pub struct Api {
    shared: Arc<Shared>,
    config: Config,
    clock: SharedClock,
    readers: Semaphore,
}

/// The endpoints.
pub fn router(shared: Arc<Shared>, config: Config, clock: SharedClock) -> Router {
    let api = Arc::new(Api { shared, config, clock, readers: Semaphore::new(READERS) });
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/alerts", post(alerts::take))
        .with_state(api)
}

/// Serves until it is told to stop.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let ended = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = ended.await {
        tracing::error!(%error, "the HTTP server ended");
    }
}

/// Listens where the configuration says.
pub async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    TcpListener::bind(config.listen).await.with_context(|| {
        format!("can't listen on {}; choose another address with autoscaler.listen", config.listen)
    })
}

/// Whether it does its work; what is wrong, and how the pools stand.
async fn readyz(State(api): State<Arc<Api>>) -> Response {
    let troubles = api.shared.troubles.all();
    let leads = api.shared.leads();
    let ready = leads.is_some() && !troubles.iter().any(|trouble| trouble.part.is_vital());
    let body = json!({
        "ready": ready,
        "leads": leads,
        "troubles": troubles,
        "alerts": api.shared.alerts.len(api.clock.now().into()),
        "pools": api.shared.pools().into_values().collect::<Vec<_>>(),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let text = api.shared.metrics.render(&api.shared.troubles);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
