//! The input of the built-in model `echo`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::InputFault;

/// What `echo` shall do, in this order: take memory, sleep, then crash, fail or give `output` back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EchoInput {
    /// Seconds to sleep.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sleep_s: f64,
    /// Given back as it is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Fail with this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<EchoFailure>,
    /// Crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<EchoCrash>,
    /// Bytes of memory to take and touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alloc_bytes: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// How `echo` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EchoFailure {
    /// As bad input does.
    Invalid,
    /// As bad luck does.
    Transient,
}

/// What `echo` takes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EchoCrash {
    /// Its worker.
    Worker,
    /// The whole agent.
    Agent,
}

impl EchoInput {
    /// Reads and checks an input.
    pub fn parse(input: &Value) -> Result<Self, InputFault> {
        let parsed: Self = super::read(input)?;
        if !(0.0..=86_400.0).contains(&parsed.sleep_s) {
            return Err(InputFault::field("sleep_s", "must be from 0 to 86400 seconds"));
        }
        Ok(parsed)
    }
}
