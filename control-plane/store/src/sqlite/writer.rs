//! The one thread that writes. While a commit is on its way to the disk, the next commands gather.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::connection::SqliteConnection;
use super::{SqliteOptions, at_once};
use crate::engine::CommitLog;
use crate::group::{Command, Savepoints, command, run};
use crate::transaction::Transaction;
use crate::{Error, Result};

/// The writer's queue. When it is dropped, the thread ends after what is queued.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Command>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: SqliteConnection,
        options: &SqliteOptions,
        commits: Arc<CommitLog>,
    ) -> Result<Self> {
        let (queue, commands) = mpsc::channel(options.queue_cap.max(1));
        let max_batch = options.max_batch.max(1);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_all(connection, commands, max_batch, &commits))
            .map_err(|error| Error::Broken(format!("the writer's thread can't be started: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) fn submit<T: Transaction>(
        &self,
        transaction: T,
    ) -> Result<oneshot::Receiver<Result<T::Output>>> {
        let (command, outcome) = command(transaction);
        let queue = self.queue.as_ref().expect("the queue is there until the writer is dropped");
        match queue.try_send(command) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(Error::Broken("the store's writer has ended".to_owned()))
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the store's writer ended with a panic");
        }
    }
}

fn write_all(
    mut connection: SqliteConnection,
    mut commands: mpsc::Receiver<Box<dyn Command>>,
    max_batch: usize,
    commits: &CommitLog,
) {
    let mut batch = Vec::new();
    while commands.blocking_recv_many(&mut batch, max_batch) > 0 {
        batch.retain(|command| !command.is_abandoned());
        if batch.is_empty() {
            continue;
        }
        batch.sort_by(|a, b| a.key().cmp(&b.key()));
        let begun = CommitLog::start();
        let committed = at_once(run(&mut connection, &mut batch, Savepoints::Each));
        commits.note(begun, batch.len());
        for command in batch.drain(..) {
            command.answer(committed.clone());
        }
    }
}
