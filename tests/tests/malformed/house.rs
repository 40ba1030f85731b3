//! A control plane with its loops and an agent in this process, on a broker of either kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use springtide_broker::Broker;
use springtide_control_plane::locks::StoreLocks;
use springtide_control_plane::{App, Config, Parts, http, service};
use springtide_core::JobId;
use springtide_core::job::{JobStatus, TaskCounts};
use springtide_node_agent::worker::WorkerLauncher;
use springtide_node_agent::{Agent, AgentParts, FixedProbe, Settings};
use springtide_process::clock::{SharedClock, TokioClock};
use springtide_process::config::{Layers, Override, Sources};
use springtide_process::stop::Stop;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

/// Longer than anything here takes unless it is stuck. Most of these tests run on a clock that jumps.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Panics in any thread or task of this program.
static PANICS: AtomicU32 = AtomicU32::new(0);

pub struct House {
    pub app: Arc<App>,
    pub agent: Agent,
    /// The control plane's way to the broker, and the agent's.
    pub brokers: [Broker; 2],
    router: Router,
    limit: Duration,
    _dir: tempfile::TempDir,
}

/// What a house is made from.
pub struct Plan {
    pub brokers: [Broker; 2],
    pub launcher: Arc<dyn WorkerLauncher>,
    pub settings: Vec<String>,
    /// Waits end with an error after it; on a clock that jumps it costs nothing.
    pub limit: Duration,
}

impl Plan {
    pub fn new(brokers: [Broker; 2], launcher: impl WorkerLauncher + 'static) -> Self {
        let settings = [
            "node.id=n1",
            "node.max_concurrent_tasks=16",
            // One task after the other may fail here; that is no reason to pause for long.
            "node.pause_min=1s",
            "node.pause_max=2s",
            "node.solo_wait=2s",
        ];
        let settings = settings.map(str::to_owned).into();
        Self { brokers, launcher: Arc::new(launcher), settings, limit: LIMIT }
    }
}

impl House {
    /// Starts it, and waits until the node is heard.
    pub async fn start(plan: Plan) -> Self {
        count_panics();
        let dir = tempfile::tempdir().unwrap();
        let mut overrides = vec![Override::new("test", "data_dir", dir.path().to_str().unwrap())];
        overrides.extend(plan.settings.iter().map(|text| Override::parse(text).unwrap()));
        let layers = Layers::load(&Sources { overrides, ..Sources::default() }).unwrap();
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let clock: SharedClock =
            Arc::new(TokioClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        let store = springtide_store::in_memory().unwrap();
        let locks = Arc::new(StoreLocks::new(Arc::clone(&store), Arc::clone(&clock)));
        let [control, node] = &plan.brokers;
        let parts = Parts {
            store,
            objects: Arc::clone(&objects),
            broker: control.clone(),
            locks,
            clock: Arc::clone(&clock),
            seed: 7,
        };
        let app = App::new(Config::read(&layers).unwrap(), parts).unwrap();
        // Everything ends with the test's runtime.
        service::start_loops(&app, &Stop::new());
        let agent = Agent::start(AgentParts {
            settings: Settings::from_layers(&layers).unwrap(),
            node: "n1".parse().unwrap(),
            before: None,
            queue: Arc::clone(&node.tasks),
            bus: Arc::clone(&node.events),
            objects,
            clock,
            seed: 1,
            launcher: plan.launcher,
            probe: Box::new(FixedProbe::default()),
            stop: Stop::new(),
        })
        .unwrap();
        let auth = http::Auth::open(&app).await.unwrap();
        let router = http::router(Arc::clone(&app), auth);
        let house = Self { app, agent, brokers: plan.brokers, router, limit: plan.limit, _dir: dir };
        house
            .until("the node to be heard and the replica to lead", |house| {
                let seen = house.app.registry.get(house.agent.node());
                let consumes = seen.is_some_and(|seen| seen.heartbeat.consuming.is_some());
                (consumes && house.app.leadership.fence().is_some()).then_some(())
            })
            .await;
        house
    }

    /// Waits until `look` finds something.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "waited {:?} for {what}; unreadable so far: {:?}; the node is {:?} and holds {}",
                self.limit,
                self.brokers.each_ref().map(|broker| broker.counters.unreadable()),
                self.agent.condition(),
                self.agent.held(),
            );
            sleep(LOOK).await;
        }
    }

    /// Messages that could not be read and were kept, by either side.
    pub fn unreadable(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.counters.unreadable()).sum()
    }

    /// Whether a connection was lost: then messages may have come twice.
    pub fn reconnected(&self) -> bool {
        self.brokers.iter().any(|broker| broker.counters.connections() > 2)
    }

    pub async fn get(&self, path: &str) -> Value {
        let response =
            self.router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// Posts a job of `echo`: so many tasks with this input.
    pub async fn submit(&self, tasks: usize, input: &Value, max_retries: u32) -> JobId {
        let job = json!({"model": "echo", "inputs": vec![input; tasks], "max_retries": max_retries});
        let request = Request::post("/v1/jobs").header("content-type", "application/json");
        let response =
            self.router.clone().oneshot(request.body(Body::from(job.to_string())).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 202);
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let view: Value = serde_json::from_slice(&body).unwrap();
        view["id"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until all tasks of a job have ended.
    pub async fn ended(&self, job: JobId) -> (JobStatus, TaskCounts) {
        let deadline = Instant::now() + self.limit;
        loop {
            let row = self.app.store.job(job).await.unwrap();
            if row.status.is_terminal() {
                return (row.status, row.counts);
            }
            assert!(
                Instant::now() < deadline,
                "waited {:?} for {job}: {:?}; in flight: {:#?}; the node: {:#?}",
                self.limit,
                row.counts,
                self.app.store.in_flight().await,
                self.app.registry.get(self.agent.node()),
            );
            sleep(LOOK).await;
        }
    }

    /// What has to hold after any nonsense: a new job succeeds, every view can be made, nothing has panicked.
    pub async fn assert_sound(&self) {
        let job = self.submit(50, &json!({"output": 7}), 3).await;
        let (status, counts) = self.ended(job).await;
        assert_eq!((status, counts.succeeded), (JobStatus::Succeeded, 50), "a valid job afterwards");
        for path in ["/v1/cluster", "/v1/nodes", "/v1/jobs", "/readyz", "/metrics"] {
            self.get(path).await;
        }
        self.get(&format!("/v1/jobs/{job}")).await;
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics");
    }
}

/// A panic inside a task of tokio is otherwise seen by nobody.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
    });
}
