//! The form of every message, pinned: a change that an older process would not understand shows here.

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::json;

use super::*;
use crate::failure::{FailureClass, TaskError};
use crate::id::{Incarnation, JobId, RunId, TaskId};
use crate::lane::{Device, DeviceRequest, Resources};
use crate::model::ModelKind;
use crate::time::Timestamp;

fn time() -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_001)
}

fn task() -> TaskId {
    TaskId { job: JobId::new(time(), 7), index: 17 }
}

fn run() -> RunId {
    RunId::new(time(), 8)
}

fn read_back<T>(message: &T) -> T
where
    T: Serialize + for<'de> Deserialize<'de>,
{
    serde_json::from_str(&serde_json::to_string(message).unwrap()).unwrap()
}

#[test]
fn task_message() {
    let message = TaskMessage {
        v: V1,
        task: task(),
        attempt: 2,
        model: "shapes@1".parse().unwrap(),
        kind: ModelKind::TextToImage,
        input: TaskInput::Inline(json!({"prompt": "a red circle"})),
        timeout: Duration::from_secs(300),
        resources: Resources { device: DeviceRequest::Any, gpu_memory_bytes: 0 },
        solo: true,
        checkpoint: Some(Checkpoint { key: "checkpoints/x".into(), step: 10, size_bytes: 4096 }),
        exclusive: Some(Fence { key: "studio-7".into(), token: 3, lease: Duration::from_secs(90) }),
        released_at: time(),
    };
    assert_eq!(read_back(&message), message);
    assert_json_snapshot!(message);
    let plain = TaskMessage {
        solo: false,
        checkpoint: None,
        exclusive: None,
        input: TaskInput::Object(InputRef { key: "inputs/x".into(), size_bytes: 1 << 20 }),
        ..message
    };
    assert_eq!(read_back(&plain), plain);
    assert_json_snapshot!(plain);
}

#[test]
fn events() {
    let kinds = [
        TaskEventKind::Started { run: run(), lane: "cpu".parse().unwrap(), device: Device::Cpu },
        TaskEventKind::Checkpointed {
            run: run(),
            checkpoint: Checkpoint { key: "checkpoints/x".into(), step: 10, size_bytes: 4096 },
        },
        TaskEventKind::Succeeded {
            run: run(),
            device: Device::Cuda,
            outputs: vec![
                Output::Object {
                    key: "outputs/x/0.png".into(),
                    media_type: "image/png".into(),
                    size_bytes: 9,
                    sha256: "00".into(),
                    seed: Some(42),
                },
                Output::Inline(json!([{"name": "speech"}])),
            ],
            timings: Timings { load: Duration::from_millis(1500), run: Duration::from_secs(2), batch: 4 },
        },
        TaskEventKind::Failed {
            run: None,
            error: TaskError::new(FailureClass::Invalid, "/prompt: is missing"),
            timings: Timings::default(),
        },
        TaskEventKind::Returned { run: None, reason: ReturnReason::Redelivered, message: String::new() },
        TaskEventKind::Returned {
            run: Some(run()),
            reason: ReturnReason::WorkerDied,
            message: "killed by signal 9".into(),
        },
    ];
    let event = |kind| TaskEvent {
        task: task(),
        attempt: 2,
        node: "i-0abc".parse().unwrap(),
        incarnation: Incarnation::new(time(), 9),
        at: time(),
        kind,
    };
    let message = EventMessage::Events { v: V1, events: kinds.into_iter().map(event).collect() };
    assert_eq!(read_back(&message), message);
    assert_json_snapshot!(message);
    let marker = EventMessage::Marker { v: V1, id: 4, token: 2 };
    assert_eq!(read_back(&marker), marker);
    assert_json_snapshot!(marker);
}

#[test]
fn heartbeat_and_answer() {
    let heartbeat = Heartbeat {
        v: V1,
        node: "i-0abc".parse().unwrap(),
        incarnation: Incarnation::new(time(), 9),
        sequence: 12,
        at: time(),
        pool: Some("gpu-spot".into()),
        condition: NodeCondition::Draining { until: time() },
        lane: "gpu-24g".parse().unwrap(),
        consuming: None,
        slots: 2,
        held: vec![(task(), 2)],
        runs: vec![RunReport { task: task(), attempt: 2, run: run(), progress: 0.5, elapsed_s: 3.25 }],
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
        version: "0.1.0".into(),
    };
    assert_eq!(read_back(&heartbeat), heartbeat);
    assert_json_snapshot!(heartbeat);
    let desired = DesiredState {
        v: V1,
        node: "i-0abc".parse().unwrap(),
        incarnation: Incarnation::new(time(), 9),
        lane: "gpu-24g".parse().unwrap(),
        drain: Some(Drain { until: time(), reason: "spot interruption".into() }),
        cancel: vec![run()],
        preload: vec!["shapes@1".parse().unwrap()],
        leases: vec![KeyLease { task: task(), attempt: 2, heartbeat: 12 }],
    };
    assert_eq!(read_back(&desired), desired);
    assert_json_snapshot!(desired);
}

#[test]
fn another_version_is_unreadable() {
    let error =
        serde_json::from_value::<EventMessage>(json!({"type": "marker", "v": 2, "id": 1, "token": 1}))
            .unwrap_err();
    assert!(error.to_string().contains("version 2 is not known"), "{error}");
}
