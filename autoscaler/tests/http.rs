//! The endpoints: alerts that are obeyed and those that are refused, readiness, metrics.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use springtide_autoscaler::{Config, Part, Shared, alert_book, http};
use springtide_core::Timestamp;
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_process::config::{Layers, Override, Sources};
use tower::ServiceExt;

struct Api {
    router: Router,
    shared: Arc<Shared>,
    clock: SharedClock,
}

impl Api {
    fn new(token: &str) -> Self {
        let pools = r#"[{name = "gpu", lane = "gpu-24g", max = 8}]"#;
        let overrides = vec![
            Override::new("test", "autoscaler.alerts.token", token),
            Override::new("test", "autoscaler.pools", pools),
        ];
        let layers = Layers::load(&Sources { overrides, ..Sources::default() }).unwrap();
        let config = Config::read(&layers).unwrap();
        let shared = Arc::new(Shared::new(alert_book(&config)));
        let clock: SharedClock = Arc::new(SystemClock);
        let router = http::router(Arc::clone(&shared), config, Arc::clone(&clock));
        Self { router, shared, clock }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn alert(&self, token: Option<&str>, body: impl Into<Body>) -> (StatusCode, String) {
        let mut request = Request::post("/v1/alerts");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request.body(body.into()).unwrap()).await
    }
}

/// As Alertmanager 0.27 sends it.
fn notification(status: &str, pool: &str) -> Value {
    json!({
        "receiver": "autoscaler", "status": status, "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am:9093",
        "alerts": [{
            "status": status,
            "labels": {
                "alertname": "SpringtideBacklogOld", "springtide_pool": pool,
                "springtide_action": "floor", "springtide_nodes": "3",
            },
            "annotations": {"summary": "…"},
            "startsAt": "2026-11-24T15:00:00.123456789Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph", "fingerprint": "c4f1d2a3b4c5d6e7",
        }],
    })
}

#[tokio::test]
async fn an_alert_raises_the_floor_until_it_is_resolved() {
    let api = Api::new("secret");
    let (status, text) = api.alert(Some("secret"), notification("firing", "gpu").to_string()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains(r#""taken":"new""#), "{text}");
    assert_eq!(api.shared.alerts.overrides("gpu", api.now()).len(), 1);
    let (_, text) = api.alert(Some("secret"), notification("firing", "gpu").to_string()).await;
    assert!(text.contains(r#""taken":"again""#), "{text}");
    let (_, text) = api.alert(Some("secret"), notification("resolved", "gpu").to_string()).await;
    assert!(text.contains(r#""taken":"resolved""#), "{text}");
    assert_eq!(api.shared.alerts.overrides("gpu", api.now()), []);
}

#[tokio::test]
async fn who_has_no_token_is_refused_before_anything_is_read() {
    let api = Api::new("secret");
    let body = || notification("firing", "gpu").to_string();
    let (status, text) = api.alert(None, body()).await;
    assert!(status == StatusCode::UNAUTHORIZED && text.contains("Authorization: Bearer"), "{text}");
    let (status, text) = api.alert(Some("secre"), body()).await;
    assert!(status == StatusCode::UNAUTHORIZED && text.contains("autoscaler.alerts.token"), "{text}");
    assert!(!text.contains("secre\"") && !text.contains("secret"), "{text}");
    let (status, text) = Api::new("").alert(Some(""), body()).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("autoscaler.alerts.token"), "{text}");
    assert_eq!(api.shared.alerts.len(api.now()), 0);
    assert_eq!(api.shared.troubles.all(), [], "strangers make no trouble");
    let (_, text) = api.get("/metrics").await;
    assert!(text.contains(r#"springtide_autoscaler_alerts_total{result="unauthorized"} 2"#), "{text}");
}

#[tokio::test]
async fn what_is_no_notification_is_refused_with_the_reason() {
    let api = Api::new("secret");
    let (status, text) = api.alert(Some("secret"), vec![b' '; 10 << 20]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("max_body_bytes"), "{text}");
    // Without a length that is announced.
    let chunk = || Ok::<_, std::io::Error>(vec![b' '; 1 << 20]);
    let stream = futures::stream::iter((0..10).map(move |_| chunk()));
    let (status, _) = api.alert(Some("secret"), Body::from_stream(stream)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for (body, part) in [
        ("{".to_owned(), "not what Alertmanager"),
        ("[]".to_owned(), "not what Alertmanager"),
        (json!({"version": "5", "alerts": []}).to_string(), "version `5`"),
        (notification("firing", "tpu").to_string(), "names `tpu`, which is no pool"),
        (notification("odd", "gpu").to_string(), "neither `firing` nor `resolved`"),
    ] {
        let (status, text) = api.alert(Some("secret"), body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(api.shared.alerts.len(api.now()), 0);
    let troubles = api.shared.troubles.all();
    assert_eq!(troubles.iter().map(|trouble| trouble.part).collect::<Vec<_>>(), [Part::Alerts]);
}

#[tokio::test]
async fn readiness_and_metrics_say_what_is_wrong() {
    let api = Api::new("");
    assert_eq!(api.get("/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(api.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE, "no round is over yet");
    api.shared.set_leads(true);
    assert_eq!(api.get("/readyz").await.0, StatusCode::OK);
    api.shared.troubles.set(Part::Describe, "the endpoint is dead", api.now());
    let (status, text) = api.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("the endpoint is dead"), "{text}");
    let (_, text) = api.get("/metrics").await;
    assert!(text.contains(r#"springtide_autoscaler_trouble{part="describe"} 1"#), "{text}");
    assert!(text.contains("springtide_autoscaler_leader 1"), "{text}");
}
