//! A broker, an agent, and a control plane that only listens.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use springtide_broker::memory::ClientId;
use springtide_broker::{Broker, Config as BrokerConfig, Memory, Publication};
use springtide_core::lane::Resources;
use springtide_core::model::ModelKind;
use springtide_core::wire::{
    DesiredState, EventMessage, Heartbeat, NodeCondition, ReturnReason, TaskEvent, TaskEventKind, TaskInput,
    TaskMessage, V1,
};
use springtide_core::{JobId, ModelId, RunId, TaskId, Timestamp};
use springtide_node_agent::worker::{InProcessLauncher, WorkerLauncher};
use springtide_node_agent::{Agent, AgentParts, FixedProbe, Settings};
use springtide_process::clock::TokioClock;
use springtide_process::config::{Layers, Override, Sources};
use springtide_process::stop::Stop;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Longer than anything in these tests takes, on a clock that jumps.
const LIMIT: Duration = Duration::from_secs(3600);

pub struct House {
    pub memory: Memory,
    /// The control plane's way to the broker.
    pub control: Broker,
    pub objects: Arc<dyn ObjectStore>,
    pub agent: Agent,
    /// The agent's connection.
    pub link: ClientId,
    pub stop: Stop,
    pub probe: FixedProbe,
    heard: Arc<Heard>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Heard {
    events: Mutex<Vec<TaskEvent>>,
    heartbeat: Mutex<Option<Heartbeat>>,
    any: Notify,
}

/// How a house is built.
pub struct Plan {
    settings: Vec<String>,
    launcher: Arc<dyn WorkerLauncher>,
    objects: Arc<dyn ObjectStore>,
}

pub fn plan(settings: &[&str]) -> Plan {
    let settings = settings.iter().map(|&text| text.to_owned()).collect();
    Plan { settings, launcher: Arc::new(InProcessLauncher::new(|| ())), objects: Arc::new(InMemory::new()) }
}

impl Plan {
    pub fn launcher(self, launcher: impl WorkerLauncher + 'static) -> Self {
        Self { launcher: Arc::new(launcher), ..self }
    }

    pub fn objects(self, objects: impl ObjectStore) -> Self {
        Self { objects: Arc::new(objects), ..self }
    }

    pub async fn build(self) -> House {
        let memory = Memory::new(&BrokerConfig::default());
        let (control, _) = memory.connect();
        let heard = Arc::new(Heard::default());
        listen(&control, &heard).await;
        let (broker, link) = memory.connect();
        let dir = tempfile::tempdir().unwrap();
        let mut overrides = vec![
            Override::parse("node.id=n1").unwrap(),
            Override::new("test", "data_dir", dir.path().to_str().unwrap()),
        ];
        overrides.extend(self.settings.iter().map(|text| Override::parse(text).unwrap()));
        let layers = Layers::load(&Sources { overrides, ..Sources::default() }).unwrap();
        let (stop, probe, objects) = (Stop::new(), FixedProbe::default(), self.objects);
        let agent = Agent::start(AgentParts {
            settings: Settings::from_layers(&layers).unwrap(),
            node: "n1".parse().unwrap(),
            before: None,
            queue: Arc::clone(&broker.tasks),
            bus: Arc::clone(&broker.events),
            objects: Arc::clone(&objects),
            clock: Arc::new(TokioClock::starting_at(UNIX_EPOCH + Duration::from_secs(1_700_000_000))),
            seed: 1,
            launcher: self.launcher,
            probe: Box::new(probe.clone()),
            stop: stop.clone(),
        })
        .unwrap();
        House { memory, control, objects, agent, link, stop, probe, heard, _dir: dir }
    }
}

/// Acks and keeps all events, and the latest heartbeat.
async fn listen(control: &Broker, heard: &Arc<Heard>) {
    let mut events = control.events.consume_events(NonZeroU16::new(100).unwrap()).await.unwrap();
    let kept = Arc::clone(heard);
    tokio::spawn(async move {
        while let Some(delivery) = events.next().await {
            let (message, rest) = delivery.split();
            if let EventMessage::Events { events, .. } = message {
                kept.events.lock().unwrap().extend(events);
            }
            let _ = rest.ack();
            kept.any.notify_waiters();
        }
    });
    let mut heartbeats = control.events.subscribe_heartbeats().await.unwrap();
    let kept = Arc::clone(heard);
    tokio::spawn(async move {
        while let Some(heartbeat) = heartbeats.next().await {
            *kept.heartbeat.lock().unwrap() = Some(heartbeat);
            kept.any.notify_waiters();
        }
    });
}

pub fn task(index: u32) -> TaskId {
    TaskId { job: JobId::new(Timestamp::from_micros(1_700_000_000_000_000), 1), index }
}

/// A message for `echo`.
pub fn echo(index: u32, input: Value) -> TaskMessage {
    TaskMessage {
        v: V1,
        task: task(index),
        attempt: 1,
        model: ModelId::new("echo", "1").unwrap(),
        kind: ModelKind::Echo,
        input: TaskInput::Inline(input),
        timeout: Duration::from_secs(300),
        resources: Resources::default(),
        solo: false,
        checkpoint: None,
        exclusive: None,
        released_at: Timestamp::default(),
    }
}

pub fn sleeper(index: u32, seconds: f64) -> TaskMessage {
    echo(index, json!({"sleep_s": seconds}))
}

impl House {
    pub async fn publish(&self, messages: impl IntoIterator<Item = TaskMessage>) {
        self.publish_to("cpu", messages).await;
    }

    pub async fn publish_to(&self, lane: &str, messages: impl IntoIterator<Item = TaskMessage>) {
        let lane: springtide_core::LaneName = lane.parse().unwrap();
        let publication =
            |message| Publication { lane: lane.clone(), message, priority: 3, expiration: LIMIT };
        let batch: Vec<Publication> = messages.into_iter().map(publication).collect();
        for result in self.control.tasks.publish(&batch).await {
            result.unwrap();
        }
    }

    /// Waits until `look` finds something; `what` it is, for when it does not come.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let found = timeout(LIMIT, async {
            loop {
                let changed = self.heard.any.notified();
                if let Some(found) = look(self) {
                    return found;
                }
                // Some things are seen without anything being said.
                let _ = timeout(Duration::from_millis(200), changed).await;
            }
        });
        found.await.unwrap_or_else(|_| {
            panic!("waited {LIMIT:?} for {what}; heard {:#?}, {:#?}", self.story(), self.heartbeat())
        })
    }

    pub fn events(&self) -> Vec<TaskEvent> {
        self.heard.events.lock().unwrap().clone()
    }

    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.heard.heartbeat.lock().unwrap().clone()
    }

    /// All that was said, in short: `0 started`, `0 succeeded`, `1 returned redelivered`, …
    pub fn story(&self) -> Vec<String> {
        self.events().iter().map(short).collect()
    }

    /// What was said about one task, in short.
    pub fn story_of(&self, index: u32) -> Vec<String> {
        let events = self.events();
        let own = events.iter().filter(|event| event.task == task(index));
        own.map(|event| short(event).split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// Waits until so many tasks have ended, and gives the last event of each.
    pub async fn ends(&self, count: usize) -> BTreeMap<u32, TaskEventKind> {
        self.until(&format!("the end of {count} tasks"), |house| {
            let ended = |event: &TaskEvent| {
                !matches!(event.kind, TaskEventKind::Started { .. } | TaskEventKind::Checkpointed { .. })
            };
            let ends: BTreeMap<u32, TaskEventKind> = house
                .events()
                .into_iter()
                .filter(ended)
                .map(|event| (event.task.index, event.kind))
                .collect();
            (ends.len() >= count).then_some(ends)
        })
        .await
    }

    /// Waits until the start of a task has been said.
    pub async fn started(&self, index: u32) -> RunId {
        self.until(&format!("the start of task {index}"), |house| {
            house.events().iter().find_map(|event| match event.kind {
                TaskEventKind::Started { run, .. } if event.task == task(index) => Some(run),
                _ => None,
            })
        })
        .await
    }

    pub async fn condition(&self, what: &str, holds: impl Fn(&NodeCondition) -> bool) -> Heartbeat {
        self.until(what, |house| house.heartbeat().filter(|heartbeat| holds(&heartbeat.condition))).await
    }

    /// Waits until the node holds nothing.
    pub async fn empty(&self) {
        self.until("the node to hold nothing", |house| (house.agent.held() == 0).then_some(())).await;
    }

    /// What is in the queue and held by nobody.
    pub async fn waiting(&self) -> u64 {
        self.control.tasks.depth(&"cpu".parse().unwrap()).await.unwrap().messages
    }

    pub async fn consumers(&self, lane: &str) -> u64 {
        self.control.tasks.depth(&lane.parse().unwrap()).await.unwrap().consumers
    }

    /// Waits until the lane has so many consumers.
    pub async fn consumed_by(&self, lane: &str, count: u64) {
        let deadline = Instant::now() + LIMIT;
        while self.consumers(lane).await != count {
            assert!(Instant::now() < deadline, "waited {LIMIT:?} for {count} consumers of {lane}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the control plane wants when it wants nothing in particular.
    pub fn wish(&self) -> DesiredState {
        DesiredState {
            v: V1,
            node: self.agent.node().clone(),
            incarnation: self.agent.incarnation(),
            lane: "cpu".parse().unwrap(),
            drain: None,
            cancel: Vec::new(),
            preload: Vec::new(),
            leases: Vec::new(),
        }
    }

    pub async fn want(&self, wish: &DesiredState) {
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.control.events.send_desired(wish, LIMIT).await {
            assert!(Instant::now() < deadline, "nobody listens: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// So long from now, by the agent's clock.
    pub fn in_future(&self, after: Duration) -> Timestamp {
        self.heartbeat().expect("a heartbeat was heard").at + after
    }
}

fn short(event: &TaskEvent) -> String {
    let detail = match &event.kind {
        TaskEventKind::Failed { error, .. } => format!(" {}", error.class.as_str()),
        TaskEventKind::Returned { reason, .. } => format!(" {}", reason.as_str()),
        _ => String::new(),
    };
    format!("{} {}{detail}", event.task.index, event.kind.as_str())
}

pub fn reason(end: &TaskEventKind) -> (ReturnReason, bool, String) {
    match end {
        TaskEventKind::Returned { run, reason, message } => (*reason, run.is_some(), message.clone()),
        other => panic!("{other:?} is no return"),
    }
}
