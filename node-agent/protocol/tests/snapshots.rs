//! Pins the JSON of each message: a change here is a change of the protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

use std::collections::BTreeMap;

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use springtide_worker_protocol::{
    Batch, ByteRange, Class, Device, DeviceKind, Done, Failed, Frame, FromWorker, Limits, Member, Output,
    PREFIX_BYTES, Ready, Subject, Timings, ToWorker, WorkerKind, encode, read_frame,
};

/// The header as it stands on the pipe, after a check that it reads back.
fn header<M>(message: &M) -> Value
where
    M: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = encode(message, &[], &Limits::default()).unwrap();
    let Frame { message: back, .. } = read_frame::<M>(&mut &bytes[..], &Limits::default()).unwrap().unwrap();
    assert_eq!(&back, message);
    serde_json::from_slice(&bytes[PREFIX_BYTES..]).unwrap()
}

#[test]
fn to_worker() {
    let run = ToWorker::Run(Batch {
        batch: 7,
        model: "shapes@1".into(),
        members: vec![
            Member::new("job_01J9/17", "run_a", json!({"prompt": "a red circle", "seed": 5})),
            Member {
                fence: Some(3),
                resume: Some(ByteRange { offset: 0, len: 4096 }),
                checkpoint_every_steps: Some(5),
                checkpoint_every_s: Some(10.0),
                ..Member::new("job_01J9/18", "run_b", json!({"prompt": "a blue square", "seed": 6}))
            },
        ],
    });
    assert_json_snapshot!(
        "load",
        header(&ToWorker::Load { model: "shapes@1".into(), dir: "/m/shapes/1".into() })
    );
    assert_json_snapshot!("unload", header(&ToWorker::Unload { model: "shapes@1".into() }));
    assert_json_snapshot!("run", header(&run));
    let cancel = |checkpoint| ToWorker::Cancel { run: "run_a".into(), checkpoint };
    assert_json_snapshot!("cancel", header(&cancel(false)));
    assert_json_snapshot!("cancel_with_checkpoint", header(&cancel(true)));
    assert_json_snapshot!("shutdown", header(&ToWorker::Shutdown));
}

#[test]
fn from_worker() {
    let ready = FromWorker::Ready(Ready {
        kind: WorkerKind::Torch,
        device: Device {
            kind: DeviceKind::Cuda,
            index: 0,
            name: "NVIDIA H200".into(),
            memory_bytes: Some(150_000_000_000),
        },
        concurrency: 1,
        pid: 4711,
        versions: BTreeMap::from([("worker".into(), "0.1.0".into()), ("libtorch".into(), "2.11.0".into())]),
    });
    let done = FromWorker::Done(Done {
        run: "run_a".into(),
        outputs: vec![
            Output::Blob {
                media_type: "image/png".into(),
                seed: Some(5),
                body: ByteRange { offset: 0, len: 812 },
            },
            Output::Tensors {
                outputs: vec![json!({"name": "speech", "datatype": "FP32", "shape": [1, 1], "data": [0.5]})],
            },
        ],
        timings: Timings { queued_s: 0.25, run_s: 1.5 },
    });
    let failed_run = FromWorker::Failed(Failed {
        subject: Subject::Run("run_a".into()),
        class: Class::Invalid,
        out_of_memory: false,
        message: "width is not a multiple of 4".into(),
        pointer: Some("/width".into()),
    });
    let failed_model = FromWorker::Failed(Failed {
        subject: Subject::Model("big@1".into()),
        class: Class::Transient,
        out_of_memory: true,
        message: "out of memory".into(),
        pointer: None,
    });
    let loaded = FromWorker::Loaded { model: "shapes@1".into(), load_s: 0.5, memory_bytes: 10_800_000 };
    let progress = FromWorker::Progress { run: "run_a".into(), fraction: 0.25, step: 5, steps: 20 };
    let checkpoint =
        FromWorker::Checkpoint { run: "run_a".into(), step: 5, body: ByteRange { offset: 0, len: 4096 } };
    assert_json_snapshot!("ready", header(&ready));
    assert_json_snapshot!("loaded", header(&loaded));
    assert_json_snapshot!("progress", header(&progress));
    assert_json_snapshot!("checkpoint", header(&checkpoint));
    assert_json_snapshot!("done", header(&done));
    assert_json_snapshot!("failed_run", header(&failed_run));
    assert_json_snapshot!("failed_model", header(&failed_model));
}
