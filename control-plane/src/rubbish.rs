//! Objects that nobody needs any more: outputs that lost, checkpoints that are overtaken. Removed in the background.
//!
//! A checkpoint that is forgotten in a crash is found by the leader's sweep. Outputs that a node stored and did not live to
//! report are looked for when a later attempt of their task succeeds. What is left lying after all that costs space and
//! nothing else.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use springtide_core::TaskId;
use tokio::sync::{Mutex, mpsc};

use crate::app::App;

/// Keys and tasks that wait to be looked at; past it they are left lying.
const CAPACITY: usize = 16_384;

/// What is to be removed.
#[derive(Debug)]
enum Item {
    /// This object.
    Key(String),
    /// All outputs of a task but these.
    LostOutputs { task: TaskId, won: Vec<String> },
}

/// What is to be removed.
#[derive(Debug)]
pub struct Rubbish {
    sender: mpsc::Sender<Item>,
    receiver: Mutex<mpsc::Receiver<Item>>,
}

impl Default for Rubbish {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl Rubbish {
    /// Has these objects removed.
    pub fn discard(&self, keys: Vec<String>) {
        for key in keys {
            if !self.put(Item::Key(key)) {
                return;
            }
        }
    }

    /// Has all outputs of a task removed but those of the attempt that won.
    pub fn discard_lost_outputs(&self, task: TaskId, won: Vec<String>) {
        self.put(Item::LostOutputs { task, won });
    }

    fn put(&self, item: Item) -> bool {
        let taken = self.sender.try_send(item).is_ok();
        if !taken {
            tracing::warn!("too many objects wait to be removed; some are left lying");
        }
        taken
    }
}

/// Removes what is discarded, until the process stops.
pub async fn run(app: Arc<App>) {
    let objects = &app.parts.objects;
    let mut items = app.rubbish.receiver.lock().await;
    while let Some(item) = items.recv().await {
        match item {
            Item::Key(key) => remove(objects, &Path::from(key.as_str())).await,
            Item::LostOutputs { task, won } => match lost_outputs(objects, task, &won).await {
                Ok(lost) => {
                    for key in lost {
                        remove(objects, &key).await;
                    }
                }
                Err(error) => tracing::warn!(%task, %error, "lost outputs are left lying"),
            },
        }
    }
}

async fn remove(objects: &Arc<dyn ObjectStore>, key: &Path) {
    match objects.delete(key).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => {
            tracing::warn!(%key, %error, "an object that nobody needs can't be removed; it is left lying");
        }
    }
}

async fn lost_outputs(
    objects: &Arc<dyn ObjectStore>,
    task: TaskId,
    won: &[String],
) -> object_store::Result<Vec<Path>> {
    // As agents name them; what stands behind the task are its attempts.
    let prefix = Path::from(format!("outputs/{}/{}", task.job, task.index));
    let all = objects.list(Some(&prefix)).map_ok(|object| object.location);
    let lost = all.try_filter(|key| std::future::ready(!won.iter().any(|won| won == key.as_ref())));
    lost.try_collect().await
}

#[cfg(test)]
mod tests {
    use object_store::PutPayload;
    use object_store::memory::InMemory;
    use springtide_core::{JobId, Timestamp};

    use super::*;

    #[tokio::test]
    async fn all_outputs_of_a_task_are_lost_but_those_that_won() {
        let job = JobId::new(Timestamp::default(), 1);
        let key = |index: u32, rest: &str| format!("outputs/{job}/{index}/{rest}");
        let (won, lost) = (key(1, "2-run_b/0.png"), key(1, "1-run_a/0.png"));
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for key in
            [&won, &lost, &key(1, "1-run_a/1.png"), &key(11, "1-run_c/0.png"), &key(0, "1-run_d/0.png")]
        {
            objects.put(&Path::from(key.as_str()), PutPayload::from_static(b"x")).await.unwrap();
        }
        let found = lost_outputs(&objects, TaskId { job, index: 1 }, &[won]).await.unwrap();
        let mut found: Vec<String> = found.iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(found, [lost, key(1, "1-run_a/1.png")]);
    }
}
