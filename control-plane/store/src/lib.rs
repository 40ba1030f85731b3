//! The job store: the truth. Whatever the broker or a node loses, work resumes from here.
//!
//! [`Store`] is the port. Its transactions are written once (in `transaction/`), in SQL that SQLite and PostgreSQL
//! both read; an adapter only says how a statement is run and how a transaction begins and ends. So the simulation,
//! which runs on SQLite in memory, runs the SQL that is shipped.
//!
//! ```text
//!   port        what the control plane asks, in its own words
//!     │
//!   sql_store   each method is one transaction
//!     │
//!   transaction submit · release · apply · reconcile · cancel · …   over a  connection  (statements, rows)
//!     │                                                                        │
//!   engine      who runs it: sqlite (a writer's thread, readers, or in line) · postgres (a pool, a group of writes)
//! ```
//!
//! Only this crate names SQL. It knows nothing of HTTP, of the broker or of forecasts.

mod connection;
mod engine;
mod group;
mod migrations;
mod open;
pub mod port;
mod postgres;
mod sql_store;
mod sqlite;
mod transaction;

pub use open::{Options, in_memory, open, open_sqlite};
pub use port::{Error, Result, Store};
pub use sqlite::SqliteOptions;
