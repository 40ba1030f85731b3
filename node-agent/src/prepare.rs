//! Brings what a task needs before it needs a device: its model and its input.

use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;
use springtide_core::model::ModelKind;
use springtide_core::wire::{Checkpoint, InputRef, ReturnReason, TaskInput, TaskMessage};
use springtide_core::{FailureClass, TaskError};
use tokio::time::Instant;

use crate::gate::PauseKind;
use crate::models::{Lease, ModelError};
use crate::node::Node;
use crate::stopper::Stop;

/// What a task needs.
pub(crate) struct Prepared {
    pub(crate) input: Value,
    /// Nothing for `echo`.
    pub(crate) model: Option<Lease>,
    /// The checkpoint that it goes on from.
    pub(crate) resume: Option<Resume>,
    /// How long its model took to come.
    pub(crate) fetched_in: Duration,
}

/// A checkpoint that was fetched.
pub(crate) struct Resume {
    pub(crate) key: String,
    pub(crate) bytes: Bytes,
}

/// Why a task can't run.
#[derive(Debug)]
pub(crate) enum Unprepared {
    /// It is the task's trouble.
    Failed(TaskError),
    /// It is the node's.
    HandBack(Stop),
}

/// Brings both. The time limits are those of the fetches.
pub(crate) async fn prepare(
    node: &Node,
    message: &TaskMessage,
    input: TaskInput,
) -> Result<Prepared, Unprepared> {
    let started = Instant::now();
    let model = match message.kind {
        ModelKind::Echo => None,
        ModelKind::Torchscript | ModelKind::TextToImage => {
            Some(node.models.get(&message.model).await.map_err(|error| unprepared(node, &error))?)
        }
    };
    let fetched_in = started.elapsed();
    node.state().disk.reset();
    let input = match input {
        TaskInput::Inline(input) => input,
        TaskInput::Object(reference) => fetch_input(node, &reference).await.map_err(Unprepared::Failed)?,
    };
    let resume = match &message.checkpoint {
        Some(checkpoint) if message.kind == ModelKind::TextToImage => {
            fetch_checkpoint(node, checkpoint).await
        }
        _ => None,
    };
    Ok(Prepared { input, model, resume, fetched_in })
}

/// A checkpoint saves work; without it the work is done once more.
async fn fetch_checkpoint(node: &Node, checkpoint: &Checkpoint) -> Option<Resume> {
    let Checkpoint { key, step, size_bytes } = checkpoint;
    let fetch = async { node.objects.get(&Path::from(key.as_str())).await?.bytes().await };
    let limit = node.settings.node.checkpoint_timeout;
    let problem = match tokio::time::timeout(limit, fetch).await {
        Ok(Ok(bytes)) if bytes.len() as u64 == *size_bytes => {
            tracing::info!(step, "going on from a checkpoint");
            return Some(Resume { key: key.clone(), bytes });
        }
        Ok(Ok(bytes)) => format!("it has {} bytes and should have {size_bytes}", bytes.len()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no end after {} s (node.checkpoint_timeout)", limit.as_secs_f64()),
    };
    tracing::warn!(key, step, problem, "the checkpoint can't be fetched; the task starts from the beginning");
    None
}

/// What a full disk keeps from running here would come back here at once, if the node went on taking tasks.
fn unprepared(node: &Node, error: &ModelError) -> Unprepared {
    if matches!(error, ModelError::Disk { .. }) {
        let pause = node.state().disk.next(node.random.unit());
        node.pause(PauseKind::Disk, error.to_string(), Some(Instant::now() + pause));
    }
    match error.class() {
        FailureClass::Evicted => Unprepared::HandBack(Stop::new(ReturnReason::NodeUnfit, error.to_string())),
        class => Unprepared::Failed(TaskError::new(class, error.to_string())),
    }
}

async fn fetch_input(node: &Node, reference: &InputRef) -> Result<Value, TaskError> {
    let InputRef { key, size_bytes } = reference;
    let transient = |problem: String| {
        TaskError::new(FailureClass::Transient, format!("input {key} could not be fetched: {problem}"))
    };
    let invalid = |problem: String| TaskError::new(FailureClass::Invalid, format!("input {key}: {problem}"));
    let fetch = async { node.objects.get(&Path::from(key.as_str())).await?.bytes().await };
    let limit = node.settings.node.fetch_timeout;
    let bytes = match tokio::time::timeout(limit, fetch).await {
        Err(_) => return Err(transient(format!("no end after {} s", limit.as_secs_f64()))),
        Ok(Err(object_store::Error::NotFound { .. })) => {
            return Err(invalid("it is not in the object store".to_owned()));
        }
        Ok(result) => result.map_err(|error| transient(error.to_string()))?,
    };
    if bytes.len() as u64 != *size_bytes {
        return Err(transient(format!("it has {} bytes and should have {size_bytes}", bytes.len())));
    }
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}
