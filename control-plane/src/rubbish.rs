//! Objects that nobody needs any more: outputs that lost, checkpoints that are overtaken. Removed in the background. A
//! checkpoint that is forgotten in a crash is found by the leader's sweep; an output that is forgotten so costs space and
//! nothing else.

use std::sync::Arc;

use object_store::{ObjectStoreExt, path::Path};
use tokio::sync::{Mutex, mpsc};

use crate::app::App;

/// Keys that wait to be removed; past it they are left lying.
const CAPACITY: usize = 16_384;

/// Keys of objects that are to be removed.
#[derive(Debug)]
pub struct Rubbish {
    sender: mpsc::Sender<String>,
    receiver: Mutex<mpsc::Receiver<String>>,
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
            if self.sender.try_send(key).is_err() {
                tracing::warn!("too many objects wait to be removed; some are left lying");
                return;
            }
        }
    }
}

/// Removes what is discarded, until the process stops.
pub async fn run(app: Arc<App>) {
    let mut keys = app.rubbish.receiver.lock().await;
    while let Some(key) = keys.recv().await {
        match app.parts.objects.delete(&Path::from(key.as_str())).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(key, %error, "an object that nobody needs can't be removed; it is left lying");
            }
        }
    }
}
