//! Checkpoints of one run: from its device to the object store, then to the control plane.
//!
//! One is on its way at a time; while it is, newer ones take each other's place. A checkpoint that can't be stored costs
//! work if the node goes, and nothing else.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use springtide_core::RunId;
use springtide_core::wire::{Checkpoint, TaskEventKind};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::device::Saved;
use crate::ledger::Key;
use crate::node::Node;

/// Keeps the checkpoints of one run.
pub(super) struct Saver {
    node: Arc<Node>,
    key: Key,
    run: RunId,
    newest: watch::Receiver<Option<Saved>>,
    /// The step of the one that is kept.
    kept: u32,
}

impl Saver {
    pub(super) fn new(node: Arc<Node>, key: Key, run: RunId, newest: watch::Receiver<Option<Saved>>) -> Self {
        Self { node, key, run, newest, kept: 0 }
    }

    /// Until the device is done with the run, and its last checkpoint is kept.
    pub(super) async fn run(mut self) {
        while self.newest.changed().await.is_ok() {
            let saved = self.newest.borrow_and_update().clone();
            // A run that its batch's failure sends through the worker once more begins anew.
            let Some(saved) = saved.filter(|saved| saved.step > self.kept) else { continue };
            let step = saved.step;
            match self.store(saved).await {
                Ok(checkpoint) => {
                    let key = checkpoint.key.clone();
                    let event = TaskEventKind::Checkpointed { run: self.run, checkpoint };
                    if !self.node.report(self.key, event).await {
                        return;
                    }
                    self.kept = step;
                    tracing::info!(run = %self.run, checkpoint = key, step, "checkpoint kept");
                }
                Err(problem) => {
                    tracing::warn!(step, problem, "a checkpoint is not kept; the run goes on without it");
                }
            }
        }
    }

    async fn store(&self, Saved { step, bytes }: Saved) -> Result<Checkpoint, String> {
        let Key { task, attempt } = self.key;
        let key = format!("checkpoints/{}/{}/{attempt}-{}/{step}", task.job, task.index, self.run);
        let size_bytes = bytes.len() as u64;
        let limit = self.node.settings.node.checkpoint_timeout;
        let path = Path::from(key.as_str());
        match timeout(limit, self.node.objects.put(&path, PutPayload::from(bytes))).await {
            Ok(Ok(_)) => Ok(Checkpoint { key, step, size_bytes }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("{key}: no end after {} s (node.checkpoint_timeout)", limit.as_secs_f64())),
        }
    }
}
