//! What is wrong at the moment, for people: in `/readyz` and in metrics, until it is right again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use springtide_core::Timestamp;

/// A part that can be in trouble; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The control plane is not reached, or refuses.
    ControlPlane,
    /// The machines can't be described.
    Describe,
    /// Launches fail.
    Launch,
    /// Terminations fail.
    Terminate,
    /// A pool of the configuration can't be used.
    Policy,
    /// What is written down of launches can't be read.
    Intents,
    /// Decisions can't be kept.
    Decisions,
    /// Interruptions are not heard.
    Interruptions,
    /// Alerts can't be obeyed.
    Alerts,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ControlPlane,
        Self::Describe,
        Self::Launch,
        Self::Terminate,
        Self::Policy,
        Self::Intents,
        Self::Decisions,
        Self::Interruptions,
        Self::Alerts,
    ];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control_plane",
            Self::Describe => "describe",
            Self::Launch => "launch",
            Self::Terminate => "terminate",
            Self::Policy => "policy",
            Self::Intents => "intents",
            Self::Decisions => "decisions",
            Self::Interruptions => "interruptions",
            Self::Alerts => "alerts",
        }
    }

    /// Whether the autoscaler can't do its work while this is in trouble.
    pub const fn is_vital(self) -> bool {
        matches!(self, Self::ControlPlane | Self::Describe | Self::Launch | Self::Terminate | Self::Policy)
    }
}

/// What is wrong, by part.
#[derive(Debug, Default)]
pub struct Troubles {
    parts: Mutex<BTreeMap<Part, Trouble>>,
}

/// What is wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The part.
    pub part: Part,
    /// What is wrong, and what to do.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Part, Trouble>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong; logged when it is new.
    pub fn set(&self, part: Part, message: impl Into<String>, now: Timestamp) {
        let message = message.into();
        let mut parts = self.lock();
        let known = parts.get(&part);
        if known.is_none_or(|known| known.message != message) {
            tracing::warn!(part = part.as_str(), message, "something is wrong; the loop goes on");
        }
        let since = known.map_or(now, |known| known.since);
        parts.insert(part, Trouble { part, message, since });
    }

    /// It is right again.
    pub fn clear(&self, part: Part) {
        if let Some(was) = self.lock().remove(&part) {
            tracing::info!(part = part.as_str(), was = was.message, "right again");
        }
    }

    /// All that is wrong.
    pub fn all(&self) -> Vec<Trouble> {
        self.lock().values().cloned().collect()
    }
}
