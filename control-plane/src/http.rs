//! The HTTP API: one endpoint, one file, with its request, its documentation and its handler.
//!
//! ```text
//! serve ──► router ──► auth (token, scope) ──► body | params (bounded, strict) ──► endpoint ──► App
//!                         └── every refusal is a problem document (RFC 9457) ◄─────────┘
//! ```
//!
//! `openapi.json` is made from the handlers' own attributes, so it can't say what the code does not do. Nothing here
//! decides what becomes of a task: endpoints check, ask the store, and tell.

mod auth;
mod body;
mod cluster;
mod follow;
mod health;
mod jobs;
mod launches;
mod leases;
mod metrics;
mod models;
mod nodes;
mod openapi;
mod outputs;
mod params;
mod problem;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::sync::Semaphore;

pub use auth::{Auth, Exposed, check_listen};
pub use problem::{Kind, Refusal};
pub use serve::serve;

use crate::app::App;
use follow::Followed;

/// Models that may be uploaded at once: each takes disk space up to `max_model_bytes`.
const UPLOADS: usize = 4;

/// What endpoints share.
pub struct Api {
    app: Arc<App>,
    auth: Auth,
    followed: Arc<Followed>,
    streams: Arc<Semaphore>,
    uploads: Semaphore,
    readiness: health::Readiness,
    room: body::Room,
}

/// As endpoints get it.
pub type Shared = Arc<Api>;

/// The whole API.
pub fn router(app: Arc<App>, auth: Auth) -> Router {
    let api = Arc::new(Api {
        streams: Arc::new(Semaphore::new(app.config.max_streams)),
        uploads: Semaphore::new(UPLOADS),
        followed: Arc::default(),
        readiness: health::Readiness::default(),
        room: body::Room::new(app.config.max_request_bytes),
        app,
        auth,
    });
    let (router, document) = openapi::routes().split_for_parts();
    let document = openapi::render(document);
    router
        // Its key has slashes, which OpenAPI's templates can't say.
        .route("/v1/outputs/{*key}", get(outputs::bytes))
        .route("/openapi.json", get(async move || document.clone()))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(api)
}
