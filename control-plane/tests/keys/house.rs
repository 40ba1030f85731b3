//! A control plane that leads, with a guard of keys that tests can break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use object_store::memory::InMemory;
use serde_json::json;
use springtide_broker::Memory;
use springtide_control_plane::locks::{Locks, LocksError, Result, StoreLocks};
use springtide_control_plane::{App, Config, Parts, service};
use springtide_core::lane::{DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::wire::TaskInput;
use springtide_core::{JobId, ModelId, Priority};
use springtide_process::clock::{SharedClock, TokioClock};
use springtide_process::config::Layers;
use springtide_process::stop::Stop;
use springtide_store::port::{Claim, Cursor, JobInput, JobSpec, NewJob, TaskFilter, TaskRow};
use tokio::time::{sleep, timeout};

use crate::node::Node;

/// Of exclusive keys.
pub const LEASE: Duration = Duration::from_secs(60);
/// Longer than anything in these tests takes, on a clock that jumps.
const LIMIT: Duration = Duration::from_secs(3600);

pub struct House {
    pub app: Arc<App>,
    pub guard: Arc<Guard>,
    memory: Memory,
    stop: Stop,
    numbers: Arc<AtomicU64>,
}

/// The store's own guard, as long as nobody has broken it.
pub struct Guard {
    inner: StoreLocks,
    foreign: Mutex<BTreeSet<String>>,
    down: AtomicBool,
}

impl Guard {
    /// Another program takes a key, by force if it has to.
    pub fn foreign(&self, key: &str) {
        self.foreign.lock().unwrap().insert(key.to_owned());
    }

    /// It gives the key back.
    pub fn give_back(&self, key: &str) {
        self.foreign.lock().unwrap().remove(key);
    }

    /// It can't be asked, or can again.
    pub fn down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn check(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(LocksError { guard: "the test's guard", problem: "it is down".to_owned() });
        }
        Ok(())
    }

    fn has(&self, claim: &Claim) -> bool {
        !self.foreign.lock().unwrap().contains(&claim.key)
    }
}

#[async_trait]
impl Locks for Guard {
    async fn take(&self, claims: &[Claim], lease: Duration) -> Result<Vec<Option<u64>>> {
        self.check()?;
        let tokens = self.inner.take(claims, lease).await?;
        let pairs = claims.iter().zip(tokens);
        Ok(pairs.map(|(claim, token)| token.filter(|_| self.has(claim))).collect())
    }

    async fn renew(&self, claims: &[Claim], lease: Duration) -> Result<Vec<bool>> {
        self.check()?;
        let renewed = self.inner.renew(claims, lease).await?;
        Ok(claims.iter().zip(renewed).map(|(claim, renewed)| renewed && self.has(claim)).collect())
    }

    async fn let_go(&self, claims: &[Claim]) -> Result<()> {
        self.check()?;
        self.inner.let_go(claims).await
    }

    fn name(&self) -> &'static str {
        "the test's guard"
    }
}

impl House {
    pub async fn build() -> Self {
        let memory = Memory::new(&Layers::defaults().section("broker").unwrap());
        let store = springtide_store::in_memory().unwrap();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock: SharedClock = Arc::new(TokioClock::starting_at(start));
        let inner = StoreLocks::new(Arc::clone(&store), Arc::clone(&clock));
        let guard = Arc::new(Guard { inner, foreign: Mutex::default(), down: AtomicBool::new(false) });
        let parts = Parts {
            store,
            objects: Arc::new(InMemory::new()),
            broker: memory.connect().0,
            locks: Arc::clone(&guard) as Arc<dyn Locks>,
            clock,
            seed: 7,
        };
        Self::lead(parts, guard, memory, Arc::default()).await
    }

    async fn lead(parts: Parts, guard: Arc<Guard>, memory: Memory, numbers: Arc<AtomicU64>) -> Self {
        let mut config = Config::read(&Layers::defaults()).unwrap();
        config.exclusive_lease = LEASE;
        let app = App::new(config, parts).unwrap();
        let stop = Stop::new();
        service::start_loops(&app, &stop);
        let house = Self { app, guard, memory, stop, numbers };
        house.until("leadership", |house| house.app.leadership.fence().is_some()).await;
        house
    }

    /// This leader ends, and another begins that knows nothing but what the store has.
    pub async fn next_leader(self) -> Self {
        self.stop.request();
        self.until("the end of leadership", |house| house.app.leadership.fence().is_none()).await;
        let parts = Parts { broker: self.memory.connect().0, seed: 8, ..self.app.parts.clone() };
        Self::lead(parts, self.guard, self.memory, self.numbers).await
    }

    /// A node that is heard.
    pub async fn node(&self, name: &str, slots: u16) -> Node {
        let node = Node::start(self.memory.connect().0, name, slots);
        let id = name.parse().unwrap();
        self.until("the node to be heard", |house| house.app.registry.get(&id).is_some()).await;
        node
    }

    /// A job of one task.
    pub async fn submit(&self, key: Option<&str>) -> JobId {
        let now = self.app.now();
        let id = JobId::new(now, self.numbers.fetch_add(1, Ordering::SeqCst).into());
        let spec = JobSpec {
            model: ModelId::new("echo", "1").unwrap(),
            kind: ModelKind::Echo,
            priority: Priority::Normal,
            rank: now,
            lane: "cpu".parse().unwrap(),
            resources: Resources { device: DeviceRequest::Cpu, gpu_memory_bytes: 0 },
            timeout: LIMIT,
            max_retries: 3,
            deadline: None,
            labels: BTreeMap::new(),
            exclusive: key.map(str::to_owned),
            tasks: 1,
            outputs_per_task: 1,
            units: 1.0,
            input: JobInput::Same(TaskInput::Inline(json!({}))),
        };
        let job = NewJob {
            id,
            accepted_at: now,
            owner: "somebody".into(),
            idempotency: None,
            spec,
            predicted_s: 0.0,
            release: None,
        };
        self.app.store.submit(job).await.unwrap();
        self.app.publisher.nudge();
        id
    }

    pub async fn cancel(&self, job: JobId) {
        let cancelled = self.app.store.cancel(job, self.app.now()).await.unwrap();
        self.app.stopping.stop(cancelled.stop, self.app.now());
    }

    /// The only task of a job.
    pub async fn task(&self, job: JobId) -> TaskRow {
        let page = Cursor { after: None, limit: 1 };
        self.app.store.tasks(job, &TaskFilter::All, &page).await.unwrap().items.remove(0)
    }

    pub async fn until_task(&self, job: JobId, what: &str, is_so: impl Fn(&TaskRow) -> bool) {
        let wait = async {
            while !is_so(&self.task(job).await) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "waited {LIMIT:?} for a task to be {what}");
    }

    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        until(what, || is_so(self)).await;
    }
}

pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = timeout(LIMIT, wait).await;
    assert!(waited.is_ok(), "waited {LIMIT:?} for {what}");
}
