//! PostgreSQL: several control planes over one database. Submissions share commits as they do on SQLite; every other
//! transaction has a connection of the pool to itself and locks the rows that it changes, in one order.

mod connection;
mod errors;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::config::Config;

use crate::connection::{Access, Connection};
use crate::engine::{CommitLog, Engine, read};
use crate::group::{Command, Savepoints, command, run};
use crate::migrations::migrate;
use crate::open::Options;
use crate::port::Commit;
use crate::transaction::Transaction;
use crate::{Error, Result};
use connection::PostgresConnection;
use writer::Writer;

/// A transaction that met another one is tried so often.
const TRIES: u32 = 6;
/// The pause before the second try; doubles with each.
const PAUSE: Duration = Duration::from_millis(2);
/// A transaction that hears nothing from its client for so long is undone: a control plane that stands still must not
/// keep the lease's row from its successor.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// A database.
pub(crate) struct Database {
    sessions: Arc<Sessions>,
    writer: Writer,
    timeout: Duration,
}

impl Database {
    /// Connects, and brings the tables up to date.
    pub(crate) async fn open(options: &Options) -> Result<Self> {
        let sessions = Arc::new(Sessions::new(options)?);
        migrate(&mut sessions.connect().await?).await?;
        let writer = Writer::start(Arc::clone(&sessions), options);
        Ok(Self { sessions, writer, timeout: options.timeout })
    }

    async fn within<T>(&self, outcome: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.timeout, outcome).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f64();
            Err(Error::Unavailable(format!("PostgreSQL took longer than {seconds} s for a transaction")))
        })
    }
}

#[async_trait]
impl Engine for Database {
    async fn write<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        let (command, outcome) = command(transaction);
        self.within(async {
            self.sessions.commit(vec![command]).await;
            outcome.await.map_err(|_| Error::Broken("a transaction was not answered".to_owned()))?
        })
        .await
    }

    async fn write_in_group<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        let outcome = self.writer.submit(transaction)?;
        self.within(async {
            outcome.await.map_err(|_| Error::Broken("the store's writer has ended".to_owned()))?
        })
        .await
    }

    async fn read<T: Transaction>(&self, transaction: T) -> Result<T::Output> {
        self.within(async {
            let mut connection = self.sessions.connect().await?;
            connection.begin(Access::Read).await?;
            read(&mut connection, &transaction).await
        })
        .await
    }

    fn take_commits(&self) -> Vec<Commit> {
        self.sessions.commits.take()
    }
}

/// The pool, and what became of its commits.
struct Sessions {
    pool: Pool,
    /// For people: without the password.
    place: String,
    commits: CommitLog,
}

impl Sessions {
    fn new(options: &Options) -> Result<Self> {
        let invalid = |error: &dyn std::fmt::Display| {
            Error::Broken(format!("store.url is no postgres://USER:PASSWORD@HOST:PORT/DATABASE: {error}"))
        };
        let mut config: Config = options.url.parse().map_err(|error| invalid(&error))?;
        let place = format!("{:?} port {:?}", config.get_hosts(), config.get_ports());
        let limits = format!(
            "{} -c statement_timeout={limit} -c lock_timeout={limit} -c idle_in_transaction_session_timeout={idle}",
            config.get_options().unwrap_or_default(),
            limit = options.timeout.as_millis(),
            idle = IDLE_LIMIT.as_millis(),
        );
        config.options(limits).application_name("springtide").connect_timeout(options.timeout);
        config.keepalives_idle(options.timeout).tcp_user_timeout(options.timeout);
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, NoTls, manager))
            // One for the group of submissions, one at least for all else.
            .max_size(options.pool_size.max(2))
            .wait_timeout(Some(options.timeout))
            .create_timeout(Some(options.timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| invalid(&error))?;
        Ok(Self { pool, place, commits: CommitLog::default() })
    }

    async fn connect(&self) -> Result<PostgresConnection> {
        match self.pool.get().await {
            Ok(client) => Ok(PostgresConnection::new(client)),
            Err(PoolError::Backend(error)) => Err(match errors::error_of(&error) {
                Error::Unavailable(why) => Error::Unavailable(format!("PostgreSQL at {}: {why}", self.place)),
                other => other,
            }),
            Err(error) => Err(Error::Unavailable(format!("PostgreSQL at {}: {error}", self.place))),
        }
    }

    /// Runs commands in one commit and answers them.
    async fn commit(&self, mut commands: Vec<Box<dyn Command>>) {
        let begun = CommitLog::start();
        let committed = self.try_commit(&mut commands).await;
        self.commits.note(begun, commands.len());
        for command in commands {
            command.answer(committed.clone());
        }
    }

    async fn try_commit(&self, commands: &mut [Box<dyn Command>]) -> Result<()> {
        // Savepoints cost two round trips each; most of the time nothing fails.
        let mut savepoints = Savepoints::None;
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            let mut connection = self.connect().await?;
            let result = run(&mut connection, commands, savepoints).await;
            if connection.met_another() {
                drop(connection);
                tokio::time::sleep(pause).await;
                pause *= 2;
            } else if result.is_err() && savepoints == Savepoints::None && commands.len() > 1 {
                savepoints = Savepoints::Each;
            } else {
                return result;
            }
        }
        run(&mut self.connect().await?, commands, Savepoints::Each).await
    }
}
