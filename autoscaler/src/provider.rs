//! The port to whoever rents machines out: launch, describe, terminate, in this house's words. Each provider and the
//! simulated one pass the same contract (`tests/contract.rs`).
//!
//! A launch is asked for under an id that is the provider's idempotency token: asked again with the same request it gives
//! the same machines, never more. Everything that a launch made carries the cluster's name, the pool and the launch's id,
//! and is found again by them.

#[cfg(feature = "ec2")]
pub mod aws;
pub mod docker;
#[cfg(feature = "ec2")]
pub mod ec2;
pub mod local;
pub mod simulated;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use springtide_core::{LaneName, NodeId, Timestamp};
use springtide_planner::OfferKey;
use ulid::Ulid;

/// A launch: the durable intent's id, and the provider's idempotency token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaunchId(String);

impl LaunchId {
    /// A new one: sorts by `now`, told apart by `random`.
    pub fn new(now: Timestamp, random: u128) -> Self {
        Self(format!("launch-{}", Ulid::from_parts(now.as_millis(), random)))
    }

    /// One that was written before.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A node's id that follows from the launch and the machine's number in it, for providers that let ids be chosen.
    pub fn node(&self, prefix: &str, number: u32) -> NodeId {
        let unique = self.0.strip_prefix("launch-").unwrap_or(&self.0).to_lowercase();
        let text: String = format!("{prefix}-{unique}-{number}").chars().take(100).collect();
        text.parse().expect("a prefix of letters, a ULID and a number make a node's id")
    }
}

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to rent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// For which pool.
    pub pool: String,
    /// The lane that the nodes are to serve.
    pub lane: LaneName,
    /// The kind of machine.
    pub offer: OfferKey,
    /// How many.
    pub count: u32,
    /// The slots of each.
    pub slots: u32,
    /// The price of each.
    pub price_per_hour: f64,
}

/// An order with all that the provider needs to carry it out, written down before it is asked for. It is repeated to the
/// letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The provider that can read `detail`.
    pub provider: String,
    /// What to rent.
    #[serde(flatten)]
    pub order: Order,
    /// What the provider settled: versions by number, subnets, images.
    #[serde(default)]
    pub detail: Value,
}

/// What came of a launch. Fewer machines than were asked for may have come: then `shortfall` says why.
#[derive(Debug)]
pub struct Launched {
    /// The machines.
    pub nodes: Vec<NodeId>,
    /// Why there are no more of them.
    pub shortfall: Option<Error>,
}

/// A machine as the provider shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its id, which is its node's.
    pub node: NodeId,
    /// The launch that made it.
    pub launch: LaunchId,
    /// The pool that it was made for.
    pub pool: String,
    /// What was rented.
    pub offer: OfferKey,
    /// When.
    pub launched_at: Timestamp,
    /// Whether it lives.
    pub life: Life,
}

/// Whether a machine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It boots or runs, and costs.
    Running,
    /// It is on its way out.
    Ending,
    /// It is no more, and is shown for a while yet.
    Ended,
}

/// Rents machines out.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    /// Its name in the configuration and in requests.
    fn name(&self) -> &'static str;

    /// Makes an order a complete request. Nothing is rented yet.
    async fn prepare(&self, order: &Order) -> Result<Request>;

    /// Rents what the request says. Idempotent: the same id and request give the same machines.
    async fn launch(&self, id: &LaunchId, request: &Request) -> Result<Launched>;

    /// All machines of this cluster, whoever launched them. One that is new may be missing for a while.
    async fn machines(&self) -> Result<Vec<Machine>>;

    /// Gives machines back. Harmless to repeat; those that are not there, or not this cluster's, are passed over.
    async fn terminate(&self, nodes: &[NodeId]) -> Result<()>;
}

/// A call of a provider failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Too many calls.
    #[error("{call}: the provider is called too often: {message}")]
    Throttled {
        /// The call.
        call: &'static str,
        /// What the provider said.
        message: String,
    },
    /// It has no machine of that kind now, or the account may not have more of them.
    #[error("{offer} can't be had: {message}")]
    NoCapacity {
        /// The kind.
        offer: OfferKey,
        /// What the provider said.
        message: String,
    },
    /// The credentials, or what they allow.
    #[error(
        "{call}: the provider refused the credentials: {message} (autoscaler.ec2.access_key_id and \
             secret_access_key, or this machine's role)"
    )]
    Refused {
        /// The call.
        call: &'static str,
        /// What the provider said.
        message: String,
    },
    /// The request can't be carried out as it is: a template that is not there, for example.
    #[error("{call}: the provider can't do that: {message}")]
    Invalid {
        /// The call.
        call: &'static str,
        /// What the provider said.
        message: String,
    },
    /// No answer, or a failure of the provider's own: what came of the call is not known.
    #[error("{call}: the provider does not answer: {message}")]
    Unavailable {
        /// The call.
        call: &'static str,
        /// What was waited for, or what the provider said.
        message: String,
    },
}

/// Shorthand for results of providers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same call may succeed soon.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. })
    }

    /// Whether that kind of machine can't be had.
    pub const fn is_capacity(&self) -> bool {
        matches!(self, Self::NoCapacity { .. })
    }

    /// A label for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::NoCapacity { .. } => "no_capacity",
            Self::Refused { .. } => "refused",
            Self::Invalid { .. } => "invalid",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}
