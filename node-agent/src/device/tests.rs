//! Jobs for the tests of what devices are made of.

use serde_json::json;
use springtide_core::model::Manifest;
use springtide_core::{JobId, TaskId, Timestamp};

use super::*;
use crate::models::Cached;

/// A job that may share its batch with others of the same `key`, and takes up `size` of it.
pub(super) fn batched(index: u32, key: &str, size: u64, max: u32, delay: Duration) -> Job {
    let input = json!({"prompt": "x", "images": size, "sampler": key});
    let mut manifest = Manifest::echo();
    manifest.batching.max = max;
    manifest.batching.max_delay_ms = u32::try_from(delay.as_millis()).unwrap();
    let cached = Cached::for_tests("/nowhere".into(), manifest);
    Job {
        model: Some(Arc::new(cached)),
        batch: BatchKey::of(Kind::TextToImage, &input),
        input,
        ..solitary(index)
    }
}

/// A job that runs by itself.
pub(super) fn solitary(index: u32) -> Job {
    let job = JobId::new(Timestamp::default(), 1);
    Job {
        key: Key { task: TaskId { job, index }, attempt: 1 },
        run: RunId::new(Timestamp::default(), index.into()),
        lane: "cpu".parse().unwrap(),
        model_id: ModelId::new("m", "1").unwrap(),
        model: None,
        input: Value::Null,
        fence: None,
        timeout: Duration::from_secs(60),
        memory_bytes: 0,
        batch: None,
        resumable: false,
        resume: None,
        queued: Instant::now(),
        fetched_in: Duration::ZERO,
        outcome: oneshot::channel().0,
        checkpoints: watch::channel(None).0,
    }
}

pub(super) fn job(index: u32) -> Job {
    solitary(index)
}
