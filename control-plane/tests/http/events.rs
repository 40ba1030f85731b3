//! Following a job by server-sent events.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use springtide_core::lane::Device;
use springtide_core::wire::{Heartbeat, RunReport, TaskEventKind};
use springtide_core::{JobId, TaskId};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use crate::api::{Api, event, run};

/// Far beyond anything that is waited for here.
const LIMIT: Duration = Duration::from_secs(300);

/// An open stream.
struct Events {
    body: BodyDataStream,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    id: Option<u64>,
    job: Value,
}

async fn follow(api: &Api, job: JobId, last_id: Option<&str>) -> Events {
    let mut request = Request::get(format!("/v1/jobs/{job}/events"));
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Events { body: response.into_body().into_data_stream(), text: String::new() }
}

impl Events {
    /// The next event; `None` at the end. Comments are passed over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = read(&block) {
                    return Some(event);
                }
                continue;
            }
            let piece = timeout(LIMIT, self.body.next()).await.expect("an event or the end in time")?;
            self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
        }
    }

    async fn status(&mut self) -> String {
        self.next().await.unwrap().job["status"].as_str().unwrap().to_owned()
    }
}

fn read(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    assert_eq!(field("event"), Some("job"));
    Some(Event { id: field("id").map(|id| id.parse().unwrap()), job: serde_json::from_str(data).unwrap() })
}

fn started(job: JobId) -> springtide_core::wire::TaskEvent {
    event(job, 0, TaskEventKind::Started { run: run(), lane: "cpu".parse().unwrap(), device: Device::Cpu })
}

#[tokio::test(start_paused = true)]
async fn a_job_is_told_as_it_changes_and_to_its_end() {
    let api = Api::new().await;
    let job = api.submit_echo().await;
    let mut events = follow(&api, job, None).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.id, &first.job["status"]), (Some(1), &json!("queued")));
    api.release().await;
    api.report(&[started(job)]).await;
    let second = events.next().await.unwrap();
    assert_eq!(second.job["status"], "running");
    api.succeed(job, 0, vec![springtide_core::wire::Output::Inline(json!([7]))]).await;
    let last = events.next().await.unwrap();
    assert!(first.id < second.id && second.id < last.id);
    assert_eq!(last.job, api.get(&format!("/v1/jobs/{job}")).await.json());
    assert_eq!(last.job["outputs"][0]["outputs"], json!([7]));
    assert_eq!(api.app.metrics.streams.get(), 1);
    assert_eq!(events.next().await, None);
    assert_eq!(api.app.metrics.streams.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_resumes_from_the_last_event_that_was_seen() {
    let api = Api::new().await;
    let job = api.submit_echo().await;
    api.release().await;
    let version = api.app.store.job(job).await.unwrap().version;
    // Known: only what is new is told.
    let mut known = follow(&api, job, Some(&version.to_string())).await;
    // Older, or no version at all: how it stands is told at once.
    for id in ["0", "nonsense", ""] {
        assert_eq!(follow(&api, job, Some(id)).await.next().await.unwrap().id, Some(version), "{id:?}");
    }
    api.report(&[started(job)]).await;
    let next = known.next().await.unwrap();
    assert_eq!((next.id, &next.job["status"]), (Some(version + 1), &json!("running")));
    // Once it has ended, that is told again, whatever was seen: the stream ends with it.
    api.succeed(job, 0, vec![]).await;
    let mut ended = follow(&api, job, Some(&(version + 2).to_string())).await;
    assert_eq!(ended.status().await, "succeeded");
    assert_eq!(ended.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn another_replica_tells_what_this_one_did() {
    let api = Api::new().await;
    let job = api.submit_echo().await;
    let replica = api.replica().await;
    let mut events = follow(&replica, job, None).await;
    assert_eq!(events.status().await, "queued");
    let begun = Instant::now();
    api.release().await;
    api.report(&[started(job)]).await;
    assert_eq!(events.status().await, "running");
    assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_between_changes() {
    let api = Api::new().await;
    let job = api.submit_echo().await;
    api.release().await;
    api.report(&[started(job)]).await;
    let mut events = follow(&api, job, None).await;
    let told = events.next().await.unwrap();
    for (sequence, progress) in [(1, 0.25), (2, 0.75)] {
        api.app.registry.hear(
            heartbeat(job, sequence, progress),
            api.app.now(),
            std::time::Duration::from_secs(10),
        );
        let event = events.next().await.unwrap();
        assert_eq!((event.id, &event.job["progress"]), (None, &json!(progress)));
        assert_eq!(event.job["version"], told.job["version"]);
    }
}

fn heartbeat(job: JobId, sequence: u64, progress: f64) -> Heartbeat {
    let task = TaskId { job, index: 0 };
    let runs = vec![RunReport { task, attempt: 1, run: run(), progress, elapsed_s: 1.0 }];
    Heartbeat { sequence, runs, ..crate::api::heartbeat() }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_that_it_lives() {
    let api = Api::new().await;
    let job = api.submit_echo().await;
    let mut events = follow(&api, job, None).await;
    events.next().await.unwrap();
    let piece = timeout(LIMIT, events.body.next()).await.unwrap().unwrap().unwrap();
    assert!(piece.starts_with(b":"), "{piece:?}");
}

#[tokio::test]
async fn no_more_streams_than_configured_are_open() {
    let api = Api::with(|config| config.max_streams = 1).await;
    let job = api.submit_echo().await;
    let first = follow(&api, job, None).await;
    let path = format!("/v1/jobs/{job}/events");
    let reply = api.get(&path).await;
    reply.problem(503);
    assert!(reply.header("retry-after").is_some());
    drop(first);
    follow(&api, job, None).await;
}

#[tokio::test]
async fn a_stream_of_nothing_is_a_problem() {
    let api = Api::new().await;
    api.get("/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/events").await.problem(404);
    assert_eq!(api.app.metrics.streams.get(), 0);
}
