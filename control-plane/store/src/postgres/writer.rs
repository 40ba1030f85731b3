//! The task that commits submissions in groups. While a commit is on its way, the next ones gather.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Sessions;
use crate::group::{Command, command};
use crate::open::Options;
use crate::transaction::Transaction;
use crate::{Error, Result};

/// The queue. When it is dropped, the task ends after what is queued.
pub(super) struct Writer(mpsc::Sender<Box<dyn Command>>);

impl Writer {
    pub(super) fn start(sessions: Arc<Sessions>, options: &Options) -> Self {
        let (queue, commands) = mpsc::channel(options.queue_cap.max(1));
        let max_batch = options.max_batch.max(1);
        tokio::spawn(write_all(sessions, commands, max_batch));
        Self(queue)
    }

    pub(super) fn submit<T: Transaction>(
        &self,
        transaction: T,
    ) -> Result<oneshot::Receiver<Result<T::Output>>> {
        let (command, outcome) = command(transaction);
        match self.0.try_send(command) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Error::Broken("the store's writer has ended".to_owned()))
            }
        }
    }
}

async fn write_all(
    sessions: Arc<Sessions>,
    mut commands: mpsc::Receiver<Box<dyn Command>>,
    max_batch: usize,
) {
    let mut batch = Vec::new();
    while commands.recv_many(&mut batch, max_batch).await > 0 {
        batch.retain(|command| !command.is_abandoned());
        if batch.is_empty() {
            continue;
        }
        batch.sort_by(|a, b| a.key().cmp(&b.key()));
        sessions.commit(std::mem::take(&mut batch)).await;
    }
}
