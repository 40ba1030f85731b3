//! Threads that read, each with a connection. A read sees one snapshot and never waits for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::connection::{Mode, SqliteConnection};
use super::{SqliteOptions, at_once};
use crate::connection::{Access, Connection};
use crate::engine::read;
use crate::transaction::Transaction;
use crate::{Error, Result};

type Read = Box<dyn FnOnce(&mut SqliteConnection) + Send>;

/// The readers' queue. When it is dropped, the threads end after what is queued.
pub(super) struct Readers {
    queue: Option<mpsc::Sender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let (queue, reads) = mpsc::channel(options.queue_cap.max(1));
        let reads = Arc::new(Mutex::new(reads));
        let start = |at: usize| {
            let connection = SqliteConnection::open(path, Mode::Reader, options)?;
            let reads = Arc::clone(&reads);
            std::thread::Builder::new()
                .name(format!("store-reader-{at}"))
                .spawn(move || read_all(connection, &reads))
                .map_err(|error| Error::Broken(format!("a reader's thread can't be started: {error}")))
        };
        let threads = (0..options.readers.max(1)).map(start).collect::<Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    pub(super) fn submit<T: Transaction>(
        &self,
        transaction: T,
    ) -> Result<oneshot::Receiver<Result<T::Output>>> {
        let (reply, outcome) = oneshot::channel();
        let run: Read = Box::new(move |connection| {
            if !reply.is_closed() {
                drop(reply.send(at_once(one(connection, &transaction))));
            }
        });
        let queue = self.queue.as_ref().expect("the queue is there until the readers are dropped");
        queue.try_send(run).map_err(|_| Error::Busy)?;
        Ok(outcome)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader of the store ended with a panic");
            }
        }
    }
}

async fn one<T: Transaction>(connection: &mut SqliteConnection, transaction: &T) -> Result<T::Output> {
    connection.begin(Access::Read).await?;
    read(connection, transaction).await
}

/// Whoever holds the lock waits for the next read; the others wait for the lock.
fn read_all(mut connection: SqliteConnection, reads: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        let next = reads.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(run) = next else { return };
        run(&mut connection);
    }
}
