//! Users: they post jobs over the API of whichever control plane answers, ask again when none does, change their minds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use springtide_core::JobId;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt;

use super::dice::Dice;
use super::house::{ControlSlot, House};

/// How long a user waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Before a user asks again.
const AGAIN: Duration = Duration::from_millis(700);
/// How often a user looks whether a job has ended.
const LOOK: Duration = Duration::from_secs(5);
/// What the API answers with is small.
const MAX_ANSWER: usize = 1 << 24;

/// A request to the API.
struct Ask {
    method: Method,
    path: String,
    key: Option<String>,
    body: Option<Value>,
}

/// Posts a job until it is accepted, and does what else is planned with it.
pub async fn post(house: Arc<House>, number: usize) {
    let plan = &house.plan.jobs[number];
    let dice = Dice::new(house.plan.seed, 100 + number as u64);
    sleep_until(Instant::now() + plan.at).await;
    let ask = Ask {
        method: Method::POST,
        path: "/v1/jobs".to_owned(),
        key: Some(format!("plan-{number}")),
        body: Some(plan.body(number)),
    };
    let (_, job) = insist(&house, &dice, &ask, |status| status == StatusCode::ACCEPTED).await;
    let Some(job) = id_of(&house, &job) else { return };
    house.truth.accepted(job);
    if let Some(after) = plan.cancel_after {
        sleep(after).await;
        house.truth.cancels(job);
        let ask = Ask { method: Method::POST, path: format!("/v1/jobs/{job}/cancel"), key: None, body: None };
        insist(&house, &dice, &ask, |status| status == StatusCode::ACCEPTED).await;
    }
    if plan.retry {
        retry_when_failed(&house, &dice, job).await;
    }
}

async fn retry_when_failed(house: &House, dice: &Dice, job: JobId) {
    let look = Ask { method: Method::GET, path: format!("/v1/jobs/{job}"), key: None, body: None };
    let status = loop {
        sleep(LOOK).await;
        let (_, view) = insist(house, dice, &look, |status| status == StatusCode::OK).await;
        match view["status"].as_str() {
            Some("queued" | "running") => {}
            Some(ended) => break ended.to_owned(),
            None => return,
        }
    };
    if status != "failed" {
        return;
    }
    let ask = Ask {
        method: Method::POST,
        path: format!("/v1/jobs/{job}/retry"),
        key: Some(format!("retry-{job}")),
        body: None,
    };
    let (_, again) = insist(house, dice, &ask, |status| status == StatusCode::ACCEPTED).await;
    if let Some(again) = id_of(house, &again) {
        house.truth.accepted(again);
    }
}

/// Drains a node, and undrains it after a while.
pub async fn drain(house: Arc<House>, node: String, deadline_s: u64, span: Duration) {
    let dice = Dice::new(house.plan.seed, 90);
    let ask = Ask {
        method: Method::POST,
        path: format!("/v1/nodes/{node}/drain"),
        key: None,
        body: Some(json!({ "deadline_s": deadline_s, "reason": "simulated" })),
    };
    // A node that is not known, or gone, is not drained.
    request(&house, &dice, &ask).await;
    sleep(span).await;
    undrain(house, node).await;
}

/// Undrains a node, if it drains.
pub async fn undrain(house: Arc<House>, node: String) {
    let dice = Dice::new(house.plan.seed, 91);
    let path = format!("/v1/nodes/{node}/undrain");
    let ask = Ask { method: Method::POST, path, key: None, body: None };
    let said = |status: StatusCode| status.is_success() || status.is_client_error();
    insist(&house, &dice, &ask, said).await;
}

fn id_of(house: &House, view: &Value) -> Option<JobId> {
    let id = view["id"].as_str().and_then(|id| id.parse().ok());
    if id.is_none() {
        house.truth.accuse(format!("an answer without the job's id: {view}"), Vec::new());
    }
    id
}

/// Asks until the answer is what it should be.
async fn insist(
    house: &House,
    dice: &Dice,
    ask: &Ask,
    enough: impl Fn(StatusCode) -> bool,
) -> (StatusCode, Value) {
    loop {
        match request(house, dice, ask).await {
            Some((status, body)) if enough(status) => return (status, body),
            Some((status, body)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                house.truth.accuse(
                    format!("{} {} was answered with {status}: {body}", ask.method, ask.path),
                    Vec::new(),
                );
                return (status, body);
            }
            _ => sleep(AGAIN).await,
        }
    }
}

/// Asks once; nothing: nobody answered in time.
async fn request(house: &House, dice: &Dice, ask: &Ask) -> Option<(StatusCode, Value)> {
    let routers: Vec<_> = house.controls.iter().filter_map(ControlSlot::router).collect();
    if routers.is_empty() {
        return None;
    }
    let router = routers[dice.index(routers.len())].clone();
    let mut request = Request::builder().method(ask.method.clone()).uri(&ask.path);
    if let Some(key) = &ask.key {
        request = request.header("idempotency-key", key);
    }
    let body = match &ask.body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let request = request.body(body).ok()?;
    let answer = async {
        let response = router.oneshot(request).await.ok()?;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), MAX_ANSWER).await.ok()?;
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    };
    timeout(PATIENCE, answer).await.ok().flatten()
}
