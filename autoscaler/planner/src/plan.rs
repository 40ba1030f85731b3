//! What is to be done, and why.

use std::fmt;

use serde::{Deserialize, Serialize};
use springtide_core::{NodeId, Timestamp};

use crate::memory::Memory;
use crate::offer::OfferKey;

/// What is to be done. The executor has no meaningful choice left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they are to be done.
    pub actions: Vec<Action>,
    /// How each pool of the policy stands.
    pub pools: Vec<Outlook>,
    /// Brought back by the next snapshot.
    pub memory: Memory,
}

/// One thing to do to a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Give a draining or empty node tasks again.
    Undrain {
        /// The pool.
        pool: String,
        /// The node.
        node: NodeId,
        /// What for.
        cause: Cause,
        /// For people, with figures.
        reason: String,
    },
    /// Rent machines.
    Launch {
        /// The pool.
        pool: String,
        /// What to rent.
        offer: OfferKey,
        /// How many.
        count: u32,
        /// The slots of each.
        slots: u32,
        /// The price of each.
        price_per_hour: f64,
        /// What for.
        cause: Cause,
        /// For people, with figures.
        reason: String,
    },
    /// Give a node no new tasks. It has none as a rule; only one that the provider takes back, or that is lost, may.
    Drain {
        /// The pool.
        pool: String,
        /// The node.
        node: NodeId,
        /// What it runs is handed back then.
        deadline: Timestamp,
        /// What for.
        cause: Cause,
        /// For people, with figures.
        reason: String,
    },
    /// Commit the node `Retiring`, fenced, then terminate its machine. Only a node that is empty, past the deadline of its
    /// drain, or that has not reported: that takes no task before, and no more once it is committed.
    Retire {
        /// The pool.
        pool: String,
        /// The node.
        node: NodeId,
        /// What for.
        cause: Cause,
        /// For people, with figures.
        reason: String,
    },
}

/// What an action is for; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Work, waiting or expected.
    Demand,
    /// The pool's `min`, a schedule or an override.
    Floor,
    /// Warm spares.
    Spares,
    /// More than is needed.
    Surplus,
    /// More than `max`, or than the budget allows.
    Limit,
    /// The provider takes the node back.
    Interruption,
    /// It has not been heard of for too long.
    Lost,
    /// It never reported.
    BootTimeout,
    /// It is empty.
    Empty,
    /// The deadline of its drain is past.
    Deadline,
}

impl Cause {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::Floor => "floor",
            Self::Spares => "spares",
            Self::Surplus => "surplus",
            Self::Limit => "limit",
            Self::Interruption => "interruption",
            Self::Lost => "lost",
            Self::BootTimeout => "boot_timeout",
            Self::Empty => "empty",
            Self::Deadline => "deadline",
        }
    }
}

/// How a pool stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// The pool.
    pub pool: String,
    /// Nodes that take tasks.
    pub active: u32,
    /// Nodes on their way: launching, or still to come of a launch.
    pub coming: u32,
    /// Nodes that drain or are empty.
    pub leaving: u32,
    /// Nodes that the strategy wants, before limits.
    pub wanted: u32,
    /// Nodes that the plan aims at, within all limits.
    pub target: u32,
    /// What kept the plan from what the strategy wanted.
    pub limits: Vec<Limit>,
    /// Why the strategy wants that many, for people.
    pub reason: String,
    /// What its machines cost, those on their way included, before the plan is executed.
    pub price_per_hour: f64,
}

/// What keeps a plan from what the strategy wants; a label of metrics and alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The pool's `max`, or a schedule's.
    Max,
    /// The budget per hour.
    Budget,
    /// An override says so.
    Frozen,
    /// The snapshot is too old, or lacks the pool or its lane: nothing is given back.
    Stale,
    /// No offer can be had at the moment: all are avoided after they could not be had.
    NoCapacity,
    /// The pause between two changes of direction.
    Hysteresis,
}

impl Limit {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Budget => "budget",
            Self::Frozen => "frozen",
            Self::Stale => "stale",
            Self::NoCapacity => "no_capacity",
            Self::Hysteresis => "hysteresis",
        }
    }
}

impl Action {
    /// The pool that it is done to.
    pub fn pool(&self) -> &str {
        match self {
            Self::Undrain { pool, .. }
            | Self::Launch { pool, .. }
            | Self::Drain { pool, .. }
            | Self::Retire { pool, .. } => pool,
        }
    }

    /// What it is for.
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Undrain { cause, .. }
            | Self::Launch { cause, .. }
            | Self::Drain { cause, .. }
            | Self::Retire { cause, .. } => *cause,
        }
    }

    /// Why, for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Undrain { reason, .. }
            | Self::Launch { reason, .. }
            | Self::Drain { reason, .. }
            | Self::Retire { reason, .. } => reason,
        }
    }

    /// Its name in metrics: `undrain`, `launch`, `drain`, `retire`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Undrain { .. } => "undrain",
            Self::Launch { .. } => "launch",
            Self::Drain { .. } => "drain",
            Self::Retire { .. } => "retire",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ", self.pool(), self.name())?;
        match self {
            Self::Undrain { node, .. } | Self::Retire { node, .. } => write!(f, "{node}")?,
            Self::Launch { offer, count, .. } => write!(f, "{count} × {offer}")?,
            Self::Drain { node, deadline, .. } => write!(f, "{node} until {deadline}")?,
        }
        write!(f, " ({}): {}", self.cause().as_str(), self.reason())
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} active, {} coming, {} leaving; wants {}, aims at {}",
            self.pool, self.active, self.coming, self.leaving, self.wanted, self.target
        )?;
        for (at, limit) in self.limits.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { " (held by " } else { ", " }, limit.as_str())?;
        }
        write!(f, "{}: {}", if self.limits.is_empty() { "" } else { ")" }, self.reason)
    }
}

/// A line for each pool, and one for each action below it: what `explain` shows and tests pin.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outlook in &self.pools {
            writeln!(f, "{outlook}")?;
        }
        for action in &self.actions {
            writeln!(f, "  {action}")?;
        }
        Ok(())
    }
}
