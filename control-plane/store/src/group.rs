//! Group commit: commands that wait together share one commit, each under a savepoint of its own. The replies go out
//! after the commit; if it fails, it fails for all.

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::connection::{Access, Connection};
use crate::transaction::{Transaction, Tx};
use crate::{Error, Result};

/// A transaction with somebody who waits for its outcome, whatever its type.
#[async_trait]
pub(crate) trait Command: Send {
    /// Commands are run in the order of their keys, so that two writers over one database can't deadlock.
    fn key(&self) -> Option<(&str, &str)>;
    /// Whether nobody waits any more.
    fn is_abandoned(&self) -> bool;
    /// Runs it and keeps the outcome. May be called again after a rollback.
    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// Answers: with its own outcome, or with the failure of what it shared.
    fn answer(self: Box<Self>, shared: Result<()>);
}

struct Queued<T: Transaction> {
    transaction: T,
    outcome: Option<Result<T::Output>>,
    reply: oneshot::Sender<Result<T::Output>>,
}

/// A command, and where its outcome will come.
pub(crate) fn command<T: Transaction>(
    transaction: T,
) -> (Box<dyn Command>, oneshot::Receiver<Result<T::Output>>) {
    let (reply, outcome) = oneshot::channel();
    (Box::new(Queued { transaction, outcome: None, reply }), outcome)
}

#[async_trait]
impl<T: Transaction> Command for Queued<T> {
    fn key(&self) -> Option<(&str, &str)> {
        self.transaction.key()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let outcome = self.transaction.run(tx).await;
        let result = outcome.as_ref().map(drop).map_err(Clone::clone);
        self.outcome = Some(outcome);
        result
    }

    fn answer(self: Box<Self>, shared: Result<()>) {
        let answer = match (shared, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            // What it did wrong itself it would have done wrong alone, too.
            (Err(_), Some(Err(own))) => Err(own),
            (Err(shared), _) => Err(shared),
            (Ok(()), None) => Err(Error::Broken("a command was not run".to_owned())),
        };
        drop(self.reply.send(answer));
    }
}

/// Whether each command of a batch gets a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Savepoints {
    /// Each has one: a command that fails leaves the others alone.
    Each,
    /// None has: the first that fails ends the attempt, which is repeated with savepoints.
    None,
}

/// Runs commands in one transaction and commits. The caller then answers each with what comes back.
pub(crate) async fn run(
    connection: &mut dyn Connection,
    commands: &mut [Box<dyn Command>],
    savepoints: Savepoints,
) -> Result<()> {
    connection.begin(Access::Write).await?;
    match run_all(connection, commands, savepoints).await {
        Ok(()) => connection.commit().await,
        Err(error) => {
            connection.rollback().await;
            Err(error)
        }
    }
}

async fn run_all(
    connection: &mut dyn Connection,
    commands: &mut [Box<dyn Command>],
    savepoints: Savepoints,
) -> Result<()> {
    let guarded = savepoints == Savepoints::Each && commands.len() > 1;
    let mut tx = Tx::new(connection);
    for command in commands {
        if guarded {
            tx.control("SAVEPOINT command").await?;
        }
        match command.run(&mut tx).await {
            Ok(()) => tx.keep(),
            Err(error) if guarded => {
                tx.forget();
                // Fails where the database has undone the whole transaction: then it has failed for all.
                tx.control("ROLLBACK TO SAVEPOINT command").await.map_err(|_| error)?;
            }
            Err(error) => return Err(error),
        }
        if guarded {
            tx.control("RELEASE SAVEPOINT command").await?;
        }
    }
    tx.save_backlog().await
}
