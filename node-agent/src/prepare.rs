//! Brings what a task needs before it needs a device: its model and its input.

use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;
use springtide_core::model::ModelKind;
use springtide_core::wire::{InputRef, ReturnReason, TaskInput, TaskMessage};
use springtide_core::{FailureClass, TaskError};
use tokio::time::Instant;

use crate::models::{Lease, ModelError};
use crate::node::Node;
use crate::stopper::Stop;

/// What a task needs.
pub(crate) struct Prepared {
    pub(crate) input: Value,
    /// Nothing for `echo`.
    pub(crate) model: Option<Lease>,
    /// How long its model took to come.
    pub(crate) fetched_in: Duration,
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
            Some(node.models.get(&message.model).await.map_err(|error| unprepared(&error))?)
        }
    };
    let fetched_in = started.elapsed();
    let input = match input {
        TaskInput::Inline(input) => input,
        TaskInput::Object(reference) => fetch_input(node, &reference).await.map_err(Unprepared::Failed)?,
    };
    Ok(Prepared { input, model, fetched_in })
}

fn unprepared(error: &ModelError) -> Unprepared {
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
