//! `POST /v1/alerts`: what Alertmanager's webhook sends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use springtide_core::Timestamp;
use tokio::time::timeout;

use super::Api;
use crate::alerts::{Alert, Notification, Refused, Taken, Target};
use crate::trouble::Part;

/// The version of the webhook's format.
const VERSION: &str = "4";
/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(10);
/// Most alerts of one notification.
const MOST: usize = 1000;

type Refusal = (StatusCode, String);

/// Takes a notification. Alertmanager repeats what is answered with a 5xx, and nothing else.
pub async fn take(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    match read(&api, &headers, body).await {
        Ok(notification) => obey(&api, &notification).into_response(),
        Err((status, detail)) => {
            let message = format!("POST /v1/alerts was answered with {}: {detail}", status.as_u16());
            // A stranger's request is no trouble of ours: it would last until an alert comes, which may be never.
            let stranger = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            let label = if stranger { "unauthorized" } else { "unreadable" };
            api.shared.metrics.alerts.with_label_values(&[label]).inc();
            if stranger {
                tracing::warn!(message, "alerts are not taken from everybody");
            } else {
                api.shared.troubles.set(Part::Alerts, message, api.clock.now().into());
            }
            problem(status, &detail)
        }
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail,
    });
    let mut response = (status, Json(body)).into_response();
    let kind = header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Who may: whoever has the token.
fn check_token(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = &api.config.alerts.token;
    if token.is_empty() {
        let detail = "no alerts are taken: set autoscaler.alerts.token, and send it as a bearer token";
        return Err((StatusCode::FORBIDDEN, detail.to_owned()));
    }
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // Hashes are compared, so that the time taken tells nothing of the token.
    let same = |given: &str| Sha256::digest(given.trim()) == Sha256::digest(token.reveal());
    match given {
        Some((_, given)) if same(given) => Ok(()),
        Some(_) => Err((StatusCode::UNAUTHORIZED, "that is not autoscaler.alerts.token".to_owned())),
        None => {
            let detail = "send autoscaler.alerts.token in the header `Authorization: Bearer …`";
            Err((StatusCode::UNAUTHORIZED, detail.to_owned()))
        }
    }
}

async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Notification, Refusal> {
    check_token(api, headers)?;
    let limit = usize::try_from(api.config.alerts.max_body_bytes).unwrap_or(usize::MAX);
    let too_large = || {
        (StatusCode::PAYLOAD_TOO_LARGE, format!("more than {limit} bytes (autoscaler.alerts.max_body_bytes)"))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let _reader =
        api.readers.try_acquire().map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "try again".to_owned()))?;
    let late = |_| (StatusCode::REQUEST_TIMEOUT, format!("the body took more than {} s", BODY.as_secs()));
    let body = timeout(BODY, to_bytes(body, limit)).await.map_err(late)?.map_err(|_| too_large())?;
    let wrong = |error: serde_json::Error| {
        (StatusCode::UNPROCESSABLE_ENTITY, format!("this is not what Alertmanager's webhook sends: {error}"))
    };
    let notification: Notification = serde_json::from_slice(&body).map_err(wrong)?;
    if notification.version != VERSION {
        let detail =
            format!("version `{}` of the webhook is not known; it has to be 4", notification.version);
        return Err((StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    if notification.alerts.len() > MOST {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, format!("more than {MOST} alerts at once")));
    }
    Ok(notification)
}

/// Obeys what can be obeyed, and says of each alert what became of it.
fn obey(api: &Api, notification: &Notification) -> Response {
    let now: Timestamp = api.clock.now().into();
    let pools = api.shared.pools();
    let target = |pool: &str| {
        let known = api.config.pools.iter().any(|one| one.name == pool);
        known.then(|| Target(pools.get(pool).map_or(0, |outlook| outlook.target)))
    };
    let alerts = notification.alerts.iter();
    let results: Vec<_> = alerts.map(|alert| (alert, api.shared.alerts.take(alert, target, now))).collect();
    let mut refused = None;
    for (_, result) in &results {
        let label = match result {
            Ok(Taken::New) => "new",
            Ok(Taken::Again) => "again",
            Ok(Taken::Resolved) => "resolved",
            Ok(Taken::Unknown) => "unknown",
            Err(error) => {
                refused = refused.or(Some(error));
                "refused"
            }
        };
        api.shared.metrics.alerts.with_label_values(&[label]).inc();
    }
    match refused {
        Some(error) => api.shared.troubles.set(Part::Alerts, error.to_string(), now),
        None => api.shared.troubles.clear(Part::Alerts),
    }
    if results.iter().any(|(_, result)| matches!(result, Ok(Taken::New | Taken::Resolved))) {
        api.shared.wake.notify_one();
    }
    let answer: Vec<Value> = results.iter().map(|(alert, result)| show(alert, result)).collect();
    let all_refused = !results.is_empty() && results.iter().all(|(_, result)| result.is_err());
    let status = if all_refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    (status, Json(json!({ "alerts": answer }))).into_response()
}

fn show(alert: &Alert, result: &Result<Taken, Refused>) -> Value {
    match result {
        Ok(taken) => {
            json!({ "fingerprint": alert.fingerprint, "taken": format!("{taken:?}").to_lowercase() })
        }
        Err(error) => json!({ "fingerprint": alert.fingerprint, "refused": error.to_string() }),
    }
}
