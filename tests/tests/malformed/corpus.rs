//! Valid messages about a house that runs: what nonsense is made from.

use std::time::Duration;

use serde_json::{Value, json};
use springtide_core::lane::{Device, DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::wire::{
    Checkpoint, DesiredState, DeviceFigures, Drain, EventMessage, Fence, Heartbeat, HostFigures, InputRef,
    NodeCondition, Output, ReturnReason, RunReport, TaskEvent, TaskEventKind, TaskInput, TaskMessage,
    Timings, V1,
};
use springtide_core::{FailureClass, RunId, TaskError, TaskId};

use crate::house::House;

/// The kinds of message, each with the place where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Task,
    Events,
    Heartbeat,
    Desired,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Task, Self::Events, Self::Heartbeat, Self::Desired];

    /// Whether whoever listens where this kind belongs can read it.
    pub fn reads(self, body: &[u8]) -> bool {
        match self {
            Self::Task => serde_json::from_slice::<TaskMessage>(body).is_ok(),
            Self::Events => serde_json::from_slice::<EventMessage>(body).is_ok(),
            Self::Heartbeat => serde_json::from_slice::<Heartbeat>(body).is_ok(),
            Self::Desired => serde_json::from_slice::<DesiredState>(body).is_ok(),
        }
    }
}

/// A task of the house, in flight as far as the store knows.
#[derive(Clone, Copy, Debug)]
struct Known {
    task: TaskId,
    attempt: u32,
    run: RunId,
}

/// Valid messages of one kind, about tasks that there are.
pub async fn valid(house: &House, kind: Kind) -> Vec<Value> {
    let in_flight = house.app.store.in_flight().await.unwrap();
    assert!(!in_flight.is_empty(), "some tasks are in flight");
    let known: Vec<Known> = in_flight
        .iter()
        .map(|task| {
            let run =
                task.running.as_ref().map_or_else(|| RunId::new(house.app.now(), 1), |(_, _, run, _)| *run);
            Known { task: task.task, attempt: task.attempt, run }
        })
        .collect();
    match kind {
        Kind::Task => known.iter().flat_map(|known| tasks(house, *known)).map(json_of).collect(),
        Kind::Events => events(house, &known).into_iter().map(json_of).collect(),
        Kind::Heartbeat => heartbeats(house, &known).into_iter().map(json_of).collect(),
        Kind::Desired => desired(house, &known).into_iter().map(json_of).collect(),
    }
}

fn json_of(message: impl serde::Serialize) -> Value {
    serde_json::to_value(message).unwrap()
}

fn tasks(house: &House, known: Known) -> [TaskMessage; 3] {
    let echo = TaskMessage {
        v: V1,
        task: known.task,
        attempt: known.attempt + 1,
        model: "echo@1".parse().unwrap(),
        kind: ModelKind::Echo,
        input: TaskInput::Inline(json!({"sleep_s": 0.01, "output": [1, "two", {"three": 3.5}]})),
        timeout: Duration::from_secs(300),
        resources: Resources::default(),
        solo: false,
        checkpoint: None,
        exclusive: None,
        released_at: house.app.now(),
    };
    let pictures = TaskMessage {
        model: "shapes@1".parse().unwrap(),
        kind: ModelKind::TextToImage,
        input: TaskInput::Inline(json!({"prompt": "a red circle", "images": 2, "seed": 7, "steps": 20})),
        resources: Resources { device: DeviceRequest::Cpu, gpu_memory_bytes: 1 << 30 },
        checkpoint: Some(checkpoint()),
        exclusive: Some(Fence { key: "studio-7".into(), token: 3, lease: Duration::from_secs(90) }),
        ..echo.clone()
    };
    let by_reference = TaskMessage {
        input: TaskInput::Object(InputRef { key: "inputs/x".into(), size_bytes: 1 << 20 }),
        solo: true,
        ..echo.clone()
    };
    [echo, pictures, by_reference]
}

fn checkpoint() -> Checkpoint {
    Checkpoint { key: "checkpoints/x".into(), step: 10, size_bytes: 4096 }
}

fn events(house: &House, known: &[Known]) -> Vec<EventMessage> {
    let kinds = |run: RunId| {
        let timings = Timings { load: Duration::from_millis(1500), run: Duration::from_secs(2), batch: 4 };
        let object = Output::Object {
            key: "outputs/x/0.png".into(),
            media_type: "image/png".into(),
            size_bytes: 9,
            sha256: "00".repeat(32),
            seed: Some(42),
        };
        let mut error = TaskError::new(FailureClass::Transient, "it broke");
        error.stderr_tail = "last words".into();
        [
            TaskEventKind::Started { run, lane: "cpu".parse().unwrap(), device: Device::Cpu },
            TaskEventKind::Checkpointed { run, checkpoint: checkpoint() },
            TaskEventKind::Succeeded {
                run,
                device: Device::Cuda,
                outputs: vec![object, Output::Inline(json!([{"name": "speech", "data": [0.5]}]))],
                timings,
            },
            TaskEventKind::Failed { run: Some(run), error, timings },
            TaskEventKind::Returned {
                run: Some(run),
                reason: ReturnReason::WorkerDied,
                message: "killed by signal 9".into(),
            },
        ]
    };
    let event = |known: &Known, kind| TaskEvent {
        task: known.task,
        attempt: known.attempt,
        node: house.agent.node().clone(),
        incarnation: house.agent.incarnation(),
        at: house.app.now(),
        kind,
    };
    let mut messages = Vec::new();
    for known in known {
        let single =
            kinds(known.run).map(|kind| EventMessage::Events { v: V1, events: vec![event(known, kind)] });
        messages.extend(single);
        let all = kinds(known.run).into_iter().map(|kind| event(known, kind)).collect();
        messages.push(EventMessage::Events { v: V1, events: all });
    }
    let token = house.app.leadership.fence().map_or(1, |fence| fence.token);
    messages.extend((1..known.len() as u64).map(|id| EventMessage::Marker { v: V1, id, token }));
    messages
}

fn heartbeats(house: &House, known: &[Known]) -> Vec<Heartbeat> {
    let real = house.app.registry.get(house.agent.node()).expect("the node was heard").heartbeat;
    let report = |known: &Known| RunReport {
        task: known.task,
        attempt: known.attempt,
        run: known.run,
        progress: 0.5,
        elapsed_s: 3.25,
    };
    let full = Heartbeat {
        sequence: real.sequence + 1000,
        pool: Some("gpu-spot".into()),
        condition: NodeCondition::Draining { until: house.app.now() },
        held: known.iter().map(|known| (known.task, known.attempt)).collect(),
        runs: known.iter().map(report).collect(),
        host: HostFigures { cpu: 0.5, cores: 8, memory_used_bytes: 1 << 30, memory_total_bytes: 1 << 34 },
        devices: vec![DeviceFigures {
            id: "cuda:0".into(),
            kind: Device::Cuda,
            name: "NVIDIA L4".into(),
            utilization: 0.9,
            memory_used_bytes: 1 << 33,
            memory_total_bytes: 23 << 30,
        }],
        models: vec!["shapes@1".parse().unwrap()],
        ..real.clone()
    };
    let other = Heartbeat { node: "node-of-another".parse().unwrap(), ..full.clone() };
    vec![real, full, other]
}

fn desired(house: &House, known: &[Known]) -> Vec<DesiredState> {
    let plain = DesiredState {
        v: V1,
        node: house.agent.node().clone(),
        incarnation: house.agent.incarnation(),
        lane: "cpu".parse().unwrap(),
        drain: None,
        cancel: Vec::new(),
        preload: Vec::new(),
        leases: Vec::new(),
    };
    let drain =
        Drain { until: house.app.now() + Duration::from_secs(60), reason: "spot interruption".into() };
    let full = DesiredState {
        drain: Some(drain),
        cancel: known.iter().map(|known| known.run).collect(),
        preload: vec!["shapes@1".parse().unwrap()],
        ..plain.clone()
    };
    vec![plain, full]
}
