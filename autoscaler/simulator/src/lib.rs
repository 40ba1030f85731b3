//! Replays a trace of tasks through the planner that runs in production, on a virtual clock, and says what it would have
//! cost and how long the tasks would have waited.
//!
//! ```text
//!   Trace (GenTD26, or what the store saw) ─► World: queue, machines, boots, spot markets ─► Outcome ─► tables, picture
//!                                               ▲  │ Snapshot
//!                                     Plan      │  ▼
//!                                            plan(snapshot, policy, now)
//! ```
//!
//! The same seed gives the same outcome. The planner is told no runtime before its task has ended: predictions come from
//! `springtide-forecast`, which learns from what ended. It must not know that HTTP, clouds or a store exist; files are read
//! and written only in [`trace`], [`times`], [`spot`] and [`output`].

pub mod bound;
pub mod outcome;
pub mod output;
pub mod picture;
pub mod spot;
pub mod times;
pub mod trace;
mod world;

pub use outcome::{Outcome, Summary};
pub use spot::Availability;
pub use times::Times;
pub use trace::{Task, Trace};
pub use world::{Options, Scenario, simulate};

use std::path::PathBuf;

/// A file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read or written.
    #[error("{path} can't be {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path}{}: {problem}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, where there is one.
        line: Option<u64>,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The policy can't be used.
    #[error("the policy can't be used: {0}")]
    Policy(String),
}
