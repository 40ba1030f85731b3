//! What is written down while it goes on: what happened to whom, and when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use springtide_core::{JobId, Timestamp};

use super::fault::{Fault, Worker};

/// Now, by the machine's clock, which the logs of all processes share.
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What came of a fault.
#[derive(Clone, Debug)]
pub struct Injected {
    /// As planned.
    pub fault: Fault,
    /// When it began.
    pub began: Timestamp,
    /// When it was over: the process runs again, bytes pass, there is room. `None`: the run was over first.
    pub ended: Option<Timestamp>,
    /// Why it was not done.
    pub skipped: Option<String>,
}

/// Who died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dead {
    /// An agent, and with it its workers.
    Agent(usize),
    /// A worker of an agent.
    Worker(usize, Worker),
    /// A control plane.
    ControlPlane(usize),
}

/// A death, by a fault or by a task.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub who: Dead,
    /// Whether a fault did it.
    pub injected: bool,
}

/// A job that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its number in the load.
    pub number: usize,
    /// Its id.
    pub id: JobId,
    /// When the 202 was here.
    pub at: Timestamp,
    /// The control plane that answered.
    pub by: usize,
    /// When its cancellation was answered.
    pub cancelled: Option<Timestamp>,
}

/// A look at the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Tasks in the store only.
    pub waiting: u64,
    /// Tasks in a queue or held.
    pub released: u64,
    /// Tasks on nodes.
    pub running: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Records(Mutex<Book>);

/// The pages.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Faults, in the order of their begins.
    pub faults: Vec<Injected>,
    /// Deaths.
    pub deaths: Vec<Death>,
    /// Jobs.
    pub accepted: Vec<Accepted>,
    /// Looks at the store.
    pub samples: Vec<Sample>,
    /// What should not have been, such as a worker that outlived its agent.
    pub violations: Vec<String>,
}

impl Records {
    /// To write into, or to read.
    pub fn open(&self) -> MutexGuard<'_, Book> {
        // What was written before a panic is as true as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
