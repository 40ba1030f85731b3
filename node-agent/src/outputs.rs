//! Puts what a run made where users can get it, before the run is said to have succeeded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use springtide_core::RunId;
use springtide_core::wire::{MAX_INLINE_BYTES, Output, is_too_deep};
use springtide_worker_protocol as protocol;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::ledger::Key;
use crate::node::Random;

/// Pauses between attempts.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// Where outputs go.
pub(crate) struct Uploader {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// For each output, retries included.
    pub(crate) timeout: Duration,
    pub(crate) random: Random,
}

/// What one run made.
pub(crate) struct Made {
    pub(crate) key: Key,
    pub(crate) run: RunId,
    pub(crate) outputs: Vec<protocol::Output>,
    /// The frame's body, which the outputs point into.
    pub(crate) body: Bytes,
}

/// An output is not in the object store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("output {index} points outside of the worker's answer; this is a mistake in the worker")]
    Outside { index: usize },
    #[error("output {key} could not be stored within {after_s} s (node.upload_timeout): {problem}")]
    Store { key: String, after_s: f64, problem: String },
}

impl Uploader {
    /// Stores all outputs, in order. Small tensors need no storing, unless they are nested so deep that the event which
    /// carries them could not be read.
    pub(crate) async fn upload(&self, made: Made) -> Result<Vec<Output>, UploadError> {
        let mut outputs = Vec::with_capacity(made.outputs.len());
        for (index, output) in made.outputs.iter().enumerate() {
            outputs.push(match output {
                protocol::Output::Blob { media_type, seed, body } => {
                    let end = body.offset.saturating_add(body.len);
                    if end > made.body.len() as u64 {
                        return Err(UploadError::Outside { index });
                    }
                    let bytes = made.body.slice(body.offset as usize..end as usize);
                    self.store(&made, index, media_type, *seed, bytes).await?
                }
                protocol::Output::Tensors { outputs } => self.tensors(&made, index, outputs).await?,
            });
        }
        Ok(outputs)
    }

    async fn tensors(&self, made: &Made, index: usize, tensors: &[Value]) -> Result<Output, UploadError> {
        // Writing a value that was read a moment ago does not fail.
        let text = serde_json::to_vec(tensors).unwrap_or_default();
        let value = Value::Array(tensors.to_vec());
        if text.len() <= MAX_INLINE_BYTES && !is_too_deep(&value) {
            return Ok(Output::Inline(value));
        }
        let text = json!({ "outputs": tensors }).to_string();
        self.store(made, index, "application/json", None, text.into()).await
    }

    async fn store(
        &self,
        made: &Made,
        index: usize,
        media_type: &str,
        seed: Option<u64>,
        bytes: Bytes,
    ) -> Result<Output, UploadError> {
        let Key { task, attempt } = made.key;
        let extension = extension(media_type);
        let key = format!("outputs/{}/{}/{attempt}-{}/{index}.{extension}", task.job, task.index, made.run);
        self.put(&key, &bytes).await?;
        Ok(Output::Object {
            key,
            media_type: media_type.to_owned(),
            size_bytes: bytes.len() as u64,
            sha256: format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(&bytes))),
            seed,
        })
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Result<(), UploadError> {
        let path = Path::from(key);
        let deadline = Instant::now() + self.timeout;
        let mut retry = RETRY;
        let mut problem = "no answer".to_owned();
        let attempts = async {
            while let Err(error) = self.objects.put(&path, PutPayload::from(bytes.clone())).await {
                tracing::warn!(key, %error, "an output is not stored yet");
                problem = error.to_string();
                tokio::time::sleep(retry.next(self.random.unit())).await;
            }
        };
        timeout_at(deadline, attempts).await.map_err(|_| UploadError::Store {
            key: key.to_owned(),
            after_s: self.timeout.as_secs_f64(),
            problem,
        })
    }
}

fn extension(media_type: &str) -> &'static str {
    match media_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "application/json" => "json",
        _ => "bin",
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use springtide_core::wire::MAX_INLINE_DEPTH;
    use springtide_core::{JobId, TaskId, Timestamp};

    use super::*;

    fn uploader(objects: &Arc<InMemory>) -> Uploader {
        let objects = Arc::clone(objects) as Arc<dyn ObjectStore>;
        Uploader { objects, timeout: Duration::from_secs(5), random: Random::new(1) }
    }

    fn made(outputs: Vec<protocol::Output>, body: &'static [u8]) -> Made {
        let task = TaskId { job: JobId::new(Timestamp::default(), 1), index: 3 };
        let run = RunId::new(Timestamp::default(), 2);
        Made { key: Key { task, attempt: 2 }, run, outputs, body: Bytes::from_static(body) }
    }

    fn blob(offset: u64, len: u64) -> protocol::Output {
        let body = protocol::ByteRange { offset, len };
        protocol::Output::Blob { media_type: "image/png".into(), seed: Some(5), body }
    }

    #[tokio::test]
    async fn pictures_are_stored_under_a_key_of_attempt_and_run() {
        let objects = Arc::new(InMemory::new());
        let outputs = uploader(&objects).upload(made(vec![blob(0, 2), blob(2, 3)], b"abcde")).await.unwrap();
        let Output::Object { key, size_bytes, seed, .. } = &outputs[1] else { panic!("not stored") };
        assert!(
            key.starts_with("outputs/job_") && key.contains("/3/2-run_") && key.ends_with("/1.png"),
            "{key}"
        );
        assert_eq!((*size_bytes, *seed), (3, Some(5)));
        let stored = objects.get(&Path::from(key.as_str())).await.unwrap().bytes().await.unwrap();
        assert_eq!(&stored[..], b"cde");
    }

    #[tokio::test]
    async fn small_tensors_travel_along_and_large_ones_are_stored() {
        let objects = Arc::new(InMemory::new());
        let tensors = |elements: usize| protocol::Output::Tensors {
            outputs: vec![json!({"name": "y", "data": vec![0.5; elements]})],
        };
        let outputs = uploader(&objects).upload(made(vec![tensors(3), tensors(50_000)], b"")).await.unwrap();
        assert_eq!(outputs[0], Output::Inline(json!([{"name": "y", "data": [0.5, 0.5, 0.5]}])));
        assert!(outputs[1].key().unwrap().ends_with("/1.json"));
    }

    #[tokio::test]
    async fn what_is_nested_too_deep_for_an_event_is_stored() {
        let objects = Arc::new(InMemory::new());
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        let tensors = |depth| protocol::Output::Tensors { outputs: vec![nested(depth)] };
        // What is deepest of what a worker's answer can be read with.
        let made = made(vec![tensors(MAX_INLINE_DEPTH - 1), tensors(MAX_INLINE_DEPTH), tensors(123)], b"");
        let outputs = uploader(&objects).upload(made).await.unwrap();
        assert_eq!(outputs[0], Output::Inline(json!([nested(MAX_INLINE_DEPTH - 1)])));
        assert!(outputs[1..].iter().all(|output| output.key().is_some()), "{outputs:?}");
    }

    #[tokio::test]
    async fn an_output_outside_of_the_answer_is_an_error() {
        let objects = Arc::new(InMemory::new());
        for bad in [blob(4, 2), blob(u64::MAX, 2)] {
            let result = uploader(&objects).upload(made(vec![bad], b"abcde")).await;
            assert!(matches!(result, Err(UploadError::Outside { index: 0 })));
        }
    }
}
