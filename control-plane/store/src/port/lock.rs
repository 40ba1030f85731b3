//! Exclusive keys: who has them, and the store as their guard.

use std::time::Duration;

use springtide_core::{Incarnation, NodeId, TaskId, Timestamp};

/// A key that was taken from its guard, for whichever task is released with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: String,
    /// By which the guard knows the hold.
    pub owner: String,
    /// The number of the hold: its fencing token.
    pub token: u64,
}

/// A key that a waiting task needs in order to be released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedKey {
    /// The key.
    pub key: String,
    /// The largest token that was ever seen of it; the next one has to be larger.
    pub last_token: u64,
}

/// A key that a task has, or had until its run is known to be over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The key and how it was taken.
    pub claim: Claim,
    /// The task.
    pub task: TaskId,
    /// Its publication.
    pub attempt: u32,
    /// How far it is.
    pub state: HoldState,
    /// Whether the task is Released or Running under that attempt.
    pub in_flight: bool,
    /// Where it was started, if it was.
    pub node: Option<(NodeId, Incarnation)>,
}

/// All exclusive keys that are not free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// What tasks have, or had until their run is known to be over.
    pub held: Vec<Hold>,
    /// What other programs had when they were last asked for. No task wants these until they are looked at again.
    pub foreign: Vec<String>,
}

/// How far a hold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// The task's message may still be in its lane's queue.
    Queued,
    /// A node has had the task.
    Taken,
    /// The run is over: the key is to be given back to its guard, and the hold to be forgotten.
    Over,
}

impl HoldState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Taken => "taken",
            Self::Over => "over",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Queued, Self::Taken, Self::Over].into_iter().find(|state| state.as_str() == name)
    }
}

/// A change of holds that no task's own change brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldChange {
    /// Nobody can be running the task any more. Left alone while the task is in flight.
    End {
        /// The key.
        key: String,
        /// The hold that is meant; another is left alone.
        token: u64,
        /// Its task.
        task: TaskId,
    },
    /// The key has been given back.
    Forget {
        /// The key.
        key: String,
        /// The hold that is meant; another is left alone.
        token: u64,
    },
    /// Another program has the key.
    Foreign {
        /// The key.
        key: String,
    },
    /// Another program may have given the key back.
    Retry {
        /// The key.
        key: String,
    },
}

/// What is wanted of the store as a guard of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWish {
    /// To have the key, if nobody has it, its lease is over, or the owner has it already. Each time with a new token.
    Take,
    /// To have it for longer.
    Renew,
    /// To have it no more.
    LetGo,
}

/// Wishes about keys, all of one kind.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// The kind.
    pub wish: LockWish,
    /// Keys with the owner that each is asked for; `token`: what the next one has to exceed.
    pub claims: Vec<Claim>,
    /// For how long, from `now`.
    pub lease: Duration,
    /// The time.
    pub now: Timestamp,
}
