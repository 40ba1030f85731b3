//! `GET /healthz`, `GET /readyz`: whether the process answers; whether it can take jobs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use springtide_broker::{Health, Link};
use springtide_core::api::Problem;
use springtide_store::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Shared;
use super::problem::{PROBLEM_JSON, Refusal};
use crate::app::App;

/// How long an answer of the store stands: asking it costs a commit.
const STANDS: Duration = Duration::from_secs(1);

/// What the store answered last.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, Result<(), Error>)>>);

impl Readiness {
    async fn of_store(&self, app: &App) -> Result<(), Error> {
        // Whoever comes meanwhile waits for the same answer.
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < STANDS
        {
            return answer.clone();
        }
        let answer = app.store.check_writable().await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// Whether jobs are taken, and what else there is to know.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// Whether jobs are taken.
    pub ready: bool,
    /// Whether this replica releases and projects.
    pub leads: bool,
    /// The store.
    pub store: PartState,
    /// The broker. Without it jobs are taken all the same.
    pub broker: PartState,
    /// The guard of exclusive keys. Without it all but exclusive tasks run.
    pub locks: PartState,
}

/// The state of a part.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PartState {
    /// `up`, `blocked` (takes no messages for the moment) or `down`.
    pub state: &'static str,
    /// For people.
    pub detail: String,
}

/// [`Ready`], where it is not: a problem document with the same fields beside.
#[derive(Serialize)]
struct NotReady {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    ready: Ready,
}

/// Answers while the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "service",
    security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the store takes writes; the state of the broker is told beside.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "service",
    security(()),
    responses(
        (status = 200, description = "Jobs are taken", body = Ready),
        (status = 503, description = "The store takes no writes", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(State(api): State<Shared>) -> Response {
    let store = api.readiness.of_store(&api.app).await;
    let broker = broker_state(&api.app.parts.broker.health.borrow());
    let leads = api.app.leadership.fence().is_some();
    let locks = locks_state(&api.app, leads);
    match store {
        Ok(()) => {
            let store = PartState { state: "up", detail: "takes writes".to_owned() };
            Json(Ready { ready: true, leads, store, broker, locks }).into_response()
        }
        Err(error) => {
            let store = PartState { state: "down", detail: error.to_string() };
            let ready = Ready { ready: false, leads, store, broker, locks };
            let problem = Problem { status: 503, ..Refusal::from(error).problem() };
            let headers = [(header::CONTENT_TYPE, PROBLEM_JSON), (header::RETRY_AFTER, "2")];
            (StatusCode::SERVICE_UNAVAILABLE, headers, Json(NotReady { problem, ready })).into_response()
        }
    }
}

/// As the leader found it; another replica knows nothing of it.
fn locks_state(app: &App, leads: bool) -> PartState {
    match app.keys.trouble().filter(|_| leads) {
        Some(detail) => PartState { state: "down", detail },
        None => PartState { state: "up", detail: app.parts.locks.name().to_owned() },
    }
}

fn broker_state(health: &Health) -> PartState {
    let state = match (&health.publish, &health.consume) {
        (Link::Down { .. }, _) | (_, Link::Down { .. }) => "down",
        (Link::Blocked { .. }, _) | (_, Link::Blocked { .. }) => "blocked",
        (Link::Up, Link::Up) => "up",
    };
    PartState { state, detail: health.to_string() }
}
