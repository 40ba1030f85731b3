//! What went wrong with a task, by class; the class alone decides what it costs.

use serde::{Deserialize, Serialize};

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// Cannot succeed anywhere: bad input, unknown model, wrong shape. Fails at once.
    Invalid,
    /// May succeed elsewhere or later: out of memory, I/O, timeout. Charged, and tried again after a delay.
    Transient,
    /// Nothing that the task did: its node was drained, interrupted, lost. Not charged, tried again soon.
    Evicted,
}

impl FailureClass {
    /// Its name in the API, in metrics and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Transient => "transient",
            Self::Evicted => "evicted",
        }
    }
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskError {
    /// What the failure costs.
    pub class: FailureClass,
    /// What happened and, where it can be known, what to do about it.
    pub message: String,
    /// The last lines that the worker wrote, when it died.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr_tail: String,
}

impl TaskError {
    /// An error without worker output. Messages are cut to 4 KiB: they are stored and shown, never parsed.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > 4096 {
            let cut = (0..=4096).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
            message.truncate(cut);
            message.push('…');
        }
        Self { class, message, stderr_tail: String::new() }
    }
}
