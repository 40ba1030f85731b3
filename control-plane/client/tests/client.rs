//! The client against a server of a few lines.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use serde_json::{Value, json};
use springtide_client::{Client, Error, JobFilter, News, Options, Package, RetryPolicy, SubmitOptions};
use springtide_core::JobId;
use springtide_core::api::{OutputView, SubmitJob};
use springtide_core::job::JobStatus;

const JOB: &str = "job_01J9ZQ2Y9V5K8T0X3M4N6P7R8S";

async fn serve(router: Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    client(&format!("http://{address}"), Some("st_secret"))
}

fn client(server: &str, token: Option<&str>) -> Client {
    let mut options = Options::new(server.parse().unwrap(), 7);
    options.token = token.map(str::to_owned);
    options.retry = RetryPolicy { first_pause: Duration::from_millis(1), ..RetryPolicy::default() };
    options.reconnect_for = Duration::from_millis(200);
    Client::new(options).unwrap()
}

fn job(status: &str, version: u64) -> Value {
    json!({
        "id": JOB, "status": status, "model": "echo@1", "priority": "normal", "labels": {},
        "created_at": "2026-01-31T12:00:00.000000Z", "started_at": null, "finished_at": null,
        "progress": 0.5, "eta_s": null,
        "tasks": {"total": 1, "waiting": 0, "released": 0, "running": 1, "succeeded": 0, "failed": 0, "cancelled": 0},
        "timings": {"wait_s": null, "load_s": 0.0, "run_s": 0.0}, "error": null, "outputs": [],
        "links": {"this": "", "events": "", "outputs": "", "tasks": "", "cancel": ""}, "version": version
    })
}

fn id() -> JobId {
    JOB.parse().unwrap()
}

fn echo() -> SubmitJob {
    SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() }
}

#[derive(Clone, Default)]
struct Seen(Arc<std::sync::Mutex<Vec<(String, HeaderMap)>>>);

impl Seen {
    fn note(&self, request: &Request) -> usize {
        let mut seen = self.0.lock().unwrap();
        seen.push((request.uri().to_string(), request.headers().clone()));
        seen.len()
    }
    fn header(&self, at: usize, name: &str) -> String {
        let seen = self.0.lock().unwrap();
        seen[at].1.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }
    fn uri(&self, at: usize) -> String {
        self.0.lock().unwrap()[at].0.clone()
    }
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[tokio::test]
async fn a_post_is_repeated_under_the_same_key() {
    let seen = Seen::default();
    let handler = |State(seen): State<Seen>, request: Request| async move {
        match seen.note(&request) {
            1 => (StatusCode::SERVICE_UNAVAILABLE, Body::empty()).into_response(),
            _ => (StatusCode::ACCEPTED, Json(job("queued", 1))).into_response(),
        }
    };
    let client = serve(Router::new().route("/v1/jobs", post(handler)).with_state(seen.clone())).await;
    let wait = SubmitOptions { wait: Duration::from_secs(2), ..SubmitOptions::default() };
    let view = client.submit(&echo(), &wait).await.unwrap();
    assert_eq!((view.id, view.status), (id(), JobStatus::Queued));
    assert_eq!(seen.uri(1), "/v1/jobs?wait_s=2");
    assert_eq!(seen.header(0, "authorization"), "Bearer st_secret");
    assert_eq!(seen.header(0, "idempotency-key").len(), 32);
    assert_eq!(seen.header(0, "idempotency-key"), seen.header(1, "idempotency-key"));
    client.submit(&echo(), &wait).await.unwrap();
    assert_ne!(seen.header(0, "idempotency-key"), seen.header(2, "idempotency-key"));
}

#[tokio::test]
async fn what_is_not_harmless_is_not_repeated() {
    let seen = Seen::default();
    let handler = |State(seen): State<Seen>, request: Request| async move {
        seen.note(&request);
        StatusCode::SERVICE_UNAVAILABLE
    };
    let client = serve(Router::new().fallback(handler).with_state(seen.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let package = double(dir.path());
    assert_eq!(client.push_model(&package, |_| {}).await.unwrap_err().status(), Some(503));
    assert_eq!(seen.count(), 1);
    let attempts = RetryPolicy::default().attempts as usize;
    assert!(client.job(id()).await.is_err());
    assert_eq!(seen.count(), 1 + attempts);
    assert!(client.retry(id()).await.is_err());
    assert_eq!(seen.header(attempts + 1, "idempotency-key"), seen.header(2 * attempts, "idempotency-key"));
}

#[tokio::test]
async fn a_problem_document_is_passed_on() {
    let body = json!({"type": "urn:springtide:problem:invalid-input", "title": "Invalid input", "status": 422,
        "detail": "must be at most 1000", "pointer": "/input/steps"});
    let handler = move || async move { (StatusCode::UNPROCESSABLE_ENTITY, Json(body)) };
    let client = serve(Router::new().route("/v1/jobs", post(handler))).await;
    let error = client.submit(&echo(), &SubmitOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "input.steps: must be at most 1000");
    assert_eq!(error.status(), Some(422));
}

#[tokio::test]
async fn an_answer_of_something_else_is_named() {
    let client = serve(Router::new().fallback(get(|| async { "<html>" }))).await;
    let error = client.job(id()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(&format!("http://{free}"), None).health().await.unwrap_err();
    assert!(error.is_unreachable());
    assert!(error.to_string().contains("is `springtide up` running"), "{error}");
}

#[tokio::test]
async fn lists_carry_filters_and_cursors_and_names_are_escaped() {
    let seen = Seen::default();
    let handler = |State(seen): State<Seen>, request: Request| async move {
        seen.note(&request);
        Json(json!({"items": [], "next_cursor": "c2"}))
    };
    let client = serve(Router::new().fallback(handler).with_state(seen.clone())).await;
    let filter = JobFilter { status: Some(JobStatus::Failed), label: Some(("team".into(), "a&b".into())) };
    let page = client.jobs(&filter, Some("c1"), 20).await.unwrap();
    assert_eq!(page.next_cursor.as_deref(), Some("c2"));
    assert_eq!(seen.uri(0), "/v1/jobs?status=failed&label=team%3Da%26b&cursor=c1&limit=20");
    client.model("../jobs").await.unwrap_err();
    assert_eq!(seen.uri(1), "/v1/models/..%2Fjobs");
}

/// A stream that breaks twice, once in the middle of an event.
#[tokio::test]
async fn events_go_on_where_they_broke() {
    let seen = Seen::default();
    let handler = |State(seen): State<Seen>, request: Request| async move {
        let text = match seen.note(&request) {
            1 => format!(": hello\n\nid: 3\ndata: {}\n\nid: 4\ndata: {{\"id", job("queued", 3)),
            2 => return StatusCode::BAD_GATEWAY.into_response(),
            3 => format!("id: 5\nevent: job\ndata: {}\n\n", job("running", 5)),
            _ => format!("event: other\ndata: x\n\nid: 9\ndata: {}\n\n", job("succeeded", 9)),
        };
        let pieces: Vec<_> =
            text.into_bytes().chunks(11).map(<[u8]>::to_vec).map(Ok::<_, Infallible>).collect();
        Body::from_stream(futures::stream::iter(pieces)).into_response()
    };
    let path = format!("/v1/jobs/{JOB}/events");
    let client = serve(Router::new().route(&path, get(handler)).with_state(seen.clone())).await;
    let mut events = client.events(id());
    let mut versions = Vec::new();
    while let Some(news) = events.next().await {
        match news.unwrap() {
            News::Job(job) => versions.push(job.version),
            // The stream broke, and the next one was refused.
            News::Silence(error) => assert_eq!((error.status(), versions.len()), (Some(502), 1)),
        }
    }
    assert_eq!(versions, [3, 5, 9]);
    let resumed: Vec<String> = (0..4).map(|at| seen.header(at, "last-event-id")).collect();
    assert_eq!(resumed, ["", "3", "3", "5"]);
}

#[tokio::test]
async fn events_end_with_an_error_that_will_not_pass() {
    let client = serve(Router::new()).await;
    let mut events = client.events(id());
    assert_eq!(events.next().await.unwrap().unwrap_err().status(), Some(404));
    assert!(events.next().await.is_none());

    // A server that answers and ends its streams at once is given up after `reconnect_for`.
    let client = serve(Router::new().fallback(get(|| async { "" }))).await;
    let mut events = client.events(id());
    assert!(matches!(events.next().await.unwrap().unwrap(), News::Silence(_)));
    assert!(events.next().await.unwrap().is_err());
}

fn output(sha256: &str) -> OutputView {
    serde_json::from_value(json!({"index": 0, "task": format!("{JOB}/0"), "url": "/v1/outputs/a/b.png",
        "media_type": "image/png", "size_bytes": 4, "sha256": sha256}))
    .unwrap()
}

#[tokio::test]
async fn downloads_are_whole_or_not_there() {
    let tries = Arc::new(AtomicU32::new(0));
    let handler = |State(tries): State<Arc<AtomicU32>>| async move {
        let whole = futures::stream::iter([Ok("te"), Ok("st")]).boxed();
        let broken = futures::stream::iter([Ok("te"), Err(std::io::Error::other("gone"))]).boxed();
        let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        Response::new(Body::from_stream(if first { broken } else { whole }))
    };
    let router = Router::new().route("/v1/outputs/a/b.png", get(handler)).with_state(Arc::clone(&tries));
    let client = serve(router).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.png");
    let good = output("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    let done = client.download_to(&good, &path).await.unwrap();
    assert_eq!(done.size_bytes, 4);
    assert_eq!(std::fs::read(&path).unwrap(), b"test");
    assert_eq!(tries.load(Ordering::Relaxed), 2);

    let other = dir.path().join("other.png");
    let error = client.download_to(&output("00"), &other).await.unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the whole one is left");

    let mut elsewhere = good;
    elsewhere.url = Some("http://elsewhere.example/x".into());
    assert!(matches!(client.download_to(&elsewhere, &other).await.unwrap_err(), Error::Protocol { .. }));
}

/// A small model.
fn double(dir: &Path) -> Package {
    let manifest = "name = \"double\"\nversion = \"2\"\nkind = \"torchscript\"\nentry = \"m.pt\"\n\
        [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1]\n[[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n";
    std::fs::write(dir.join("model.toml"), manifest).unwrap();
    std::fs::write(dir.join("m.pt"), b"abc").unwrap();
    Package::read(dir, |_, _| {}).unwrap()
}

#[tokio::test]
async fn a_model_is_pushed_with_its_length_and_progress() {
    let handler = |headers: HeaderMap, body: axum::body::Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-tar");
        assert_eq!(headers["content-length"], body.len().to_string().as_str());
        let mut archive = tar::Archive::new(&body[..]);
        let names: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names.len(), 2);
        Json(
            json!({"id": "double@2", "kind": "torchscript", "size_bytes": 3, "pushed_at": null, "manifest": {}}),
        )
    };
    let client = serve(Router::new().route("/v1/models", post(handler))).await;
    let dir = tempfile::tempdir().unwrap();
    let package = double(dir.path());
    let last = Arc::new(std::sync::Mutex::new(None));
    let told = Arc::clone(&last);
    let view = client.push_model(&package, move |upload| *told.lock().unwrap() = Some(upload)).await.unwrap();
    assert_eq!(view.id.to_string(), "double@2");
    let upload = last.lock().unwrap().unwrap();
    assert_eq!(upload.sent_bytes, upload.total_bytes);
}
