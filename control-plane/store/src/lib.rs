//! The job store: the truth. Whatever the broker or a node loses, work resumes from here.
//!
//! [`Store`] is the port. Its transactions are written once (in `transaction/`), in SQL that SQLite and PostgreSQL
//! both read; an adapter only says how a statement is run and how a transaction begins and ends. So the simulation,
//! which runs on SQLite in memory, runs the SQL that is shipped.
//!
//! Only this crate names SQL. It knows nothing of HTTP, of the broker or of forecasts.

pub mod port;

pub use port::{Error, Store};
