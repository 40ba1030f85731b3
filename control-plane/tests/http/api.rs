//! A control plane in memory, and how to talk to it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use springtide_broker::Memory;
use springtide_control_plane::locks::StoreLocks;
use springtide_control_plane::{App, Config, Parts, http, models, rubbish};
use springtide_core::lane::Device;
use springtide_core::wire::{
    Heartbeat, HostFigures, NodeCondition, Output, TaskEvent, TaskEventKind, Timings, V1,
};
use springtide_core::{Incarnation, JobId, RunId, TaskError, TaskId, Timestamp};
use springtide_process::clock::{SharedClock, TokioClock};
use springtide_process::config::Layers;
use springtide_store::Store;
use springtide_store::port::{Fence, LaneRoom, LeaseRequest, ReleaseRequest, ReleasedTask, TokenRow};
use tower::ServiceExt;

/// A control plane.
pub struct Api {
    pub app: Arc<App>,
    pub router: Router,
}

impl Api {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(springtide_store::in_memory().unwrap(), change).await
    }

    /// Another control plane over the same store.
    pub async fn replica(&self) -> Self {
        Self::over(Arc::clone(&self.app.store), |_| {}).await
    }

    async fn over(store: Arc<dyn Store>, change: impl FnOnce(&mut Config)) -> Self {
        let layers = Layers::defaults();
        let mut config = Config::read(&layers).unwrap();
        change(&mut config);
        let (broker, _) = Memory::new(&layers.section("broker").unwrap()).connect();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock: SharedClock = Arc::new(TokioClock::starting_at(start));
        let locks = Arc::new(StoreLocks::new(Arc::clone(&store), Arc::clone(&clock)));
        let parts = Parts { store, objects: Arc::new(InMemory::new()), broker, locks, clock, seed: 7 };
        let app = App::new(config, parts).unwrap();
        tokio::spawn(rubbish::run(Arc::clone(&app)));
        let auth = http::Auth::open(&app).await.unwrap();
        Self { router: http::router(Arc::clone(&app), auth), app }
    }

    /// Adds a token that may do all this, and starts anew with it.
    pub async fn with_token(self, token: &str, scopes: &[&str]) -> Self {
        let row = TokenRow {
            name: format!("owner-of-{token}"),
            sha256: models::hex(&Sha256::digest(token)),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            created_at: self.app.now(),
        };
        self.app.store.put_token(row).await.unwrap();
        let auth = http::Auth::open(&self.app).await.unwrap();
        Self { router: http::router(Arc::clone(&self.app), auth), app: self.app }
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(json_request(Method::POST, path, body.to_string())).await
    }

    /// Posts a job that is fine; its id.
    pub async fn submit(&self, job: &Value) -> JobId {
        let reply = self.post("/v1/jobs", job).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// Posts a job of the built-in model; its id.
    pub async fn submit_echo(&self) -> JobId {
        self.submit(&json!({"model": "echo", "input": {}})).await
    }

    pub async fn push(&self, archive: Vec<u8>) -> Reply {
        let request = Request::post("/v1/models").header("content-type", "application/x-tar");
        self.send(request.body(Body::from(archive)).unwrap()).await
    }

    /// The keys of all objects.
    pub async fn objects(&self) -> Vec<String> {
        let found: Vec<_> = self.app.parts.objects.list(None).try_collect().await.unwrap();
        found.into_iter().map(|object| object.location.to_string()).collect()
    }

    /// Nothing was kept of what was refused: no job, no object.
    pub async fn assert_empty(&self) {
        assert_eq!(self.get("/v1/jobs").await.json()["items"], json!([]));
        for _ in 0..100 {
            if self.objects().await.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("left behind: {:?}", self.objects().await);
    }

    async fn fence(&self) -> Fence {
        let request = LeaseRequest {
            name: "leader".to_owned(),
            holder: "test".to_owned(),
            duration: Duration::from_secs(3600),
            now: self.app.now(),
        };
        let lease = self.app.store.lease(&request).await.unwrap();
        Fence { name: request.name, token: lease.token }
    }

    /// Releases every task that waits, as the leader does.
    pub async fn release(&self) -> Vec<ReleasedTask> {
        let lanes = self.app.lanes.iter().map(|lane| LaneRoom {
            lane: lane.name.clone(),
            device: lane.device,
            gpu_memory_bytes: lane.gpu_memory_bytes,
            limit: 1000,
        });
        let request =
            ReleaseRequest { now: self.app.now(), lanes: lanes.collect(), most: 1000, claims: Vec::new() };
        self.app.store.release(&self.fence().await, &request).await.unwrap().tasks
    }

    /// Applies events, as the leader does, and tells whoever waits on this replica.
    pub async fn report(&self, events: &[TaskEvent]) {
        let moment = springtide_core::task::Moment { now: self.app.now(), jitter: 0.5 };
        let policy = self.app.config.retry_policy();
        let applied = self.app.store.apply(&self.fence().await, events, &policy, moment).await.unwrap();
        for (job, ..) in applied.changed {
            self.app.changes.notify(job);
        }
    }

    /// Has a released task succeed.
    pub async fn succeed(&self, job: JobId, index: u32, outputs: Vec<Output>) {
        let timings = Timings { load: Duration::ZERO, run: Duration::from_millis(1500), batch: 1 };
        let kind = TaskEventKind::Succeeded { run: run(), device: Device::Cpu, outputs, timings };
        self.report(&[event(job, index, kind)]).await;
    }

    /// Has a released task fail for good.
    pub async fn fail(&self, job: JobId, index: u32) {
        let error = TaskError::new(springtide_core::FailureClass::Invalid, "no such colour");
        let kind = TaskEventKind::Failed { run: Some(run()), error, timings: Timings::default() };
        self.report(&[event(job, index, kind)]).await;
    }
}

pub fn run() -> RunId {
    RunId::new(Timestamp::from_micros(1), 1)
}

/// What a node says of the first attempt of a task.
pub fn event(job: JobId, index: u32, kind: TaskEventKind) -> TaskEvent {
    TaskEvent {
        task: TaskId { job, index },
        attempt: 1,
        node: "node-1".parse().unwrap(),
        incarnation: Incarnation::new(Timestamp::from_micros(1), 1),
        at: Timestamp::from_micros(1),
        kind,
    }
}

/// A node with two slots, heard for the first time.
pub fn heartbeat() -> Heartbeat {
    Heartbeat {
        v: V1,
        node: "node-1".parse().unwrap(),
        incarnation: Incarnation::new(Timestamp::from_micros(1), 1),
        sequence: 1,
        at: Timestamp::from_micros(1),
        pool: None,
        condition: NodeCondition::Active,
        lane: "cpu".parse().unwrap(),
        consuming: None,
        slots: 2,
        held: Vec::new(),
        runs: Vec::new(),
        host: HostFigures::default(),
        devices: Vec::new(),
        models: Vec::new(),
        version: "test".to_owned(),
    }
}

pub fn json_request(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

/// What came back.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// It is a problem document of this status; what it says.
    #[track_caller]
    pub fn problem(&self, status: u16) -> springtide_core::api::Problem {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem: springtide_core::api::Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, status);
        assert!(problem.r#type.starts_with("urn:springtide:problem:"), "{problem:?}");
        assert!(!problem.detail.is_empty(), "{problem:?}");
        problem
    }

    /// It refuses the field at `pointer`.
    #[track_caller]
    pub fn assert_field(&self, status: u16, pointer: &str) {
        let problem = self.problem(status);
        assert_eq!(problem.pointer.as_deref(), Some(pointer), "{problem:?}");
    }
}
