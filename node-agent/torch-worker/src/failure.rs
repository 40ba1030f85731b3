//! Why something was not run, in the terms that decide what follows.

use springtide_core::model::InputFault;
use springtide_worker_protocol::{Class, Failed, Subject};
use tch::TchError;

/// A run, or the loading of a model, that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The input, or the model itself, is wrong; another try would fail as well.
    #[error("{message}")]
    Invalid {
        /// What is wrong and what would be right.
        message: String,
        /// The field of the input, as a JSON pointer; nothing if it is the model's fault.
        pointer: Option<String>,
    },
    /// The device or the machine failed; another try may do.
    #[error("{message}")]
    Device {
        /// What failed.
        message: String,
        /// What it means for this process.
        state: DeviceState,
    },
    /// The agent took the run back.
    #[error("cancelled")]
    Cancelled,
}

/// What a device's failure leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// Nothing; the next run may do.
    Usable,
    /// The memory was too small; a smaller run may do.
    OutOfMemory,
    /// CUDA keeps returning such an error until the process ends.
    Broken,
}

impl Failure {
    /// The model's files are wrong.
    pub fn model(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), pointer: None }
    }

    /// Something of the machine failed.
    pub fn device(message: impl Into<String>) -> Self {
        Self::Device { message: message.into(), state: DeviceState::Usable }
    }

    /// libtorch failed at `what`. Its errors have no codes, so this is the one place that reads their text: what
    /// speaks of memory or of CUDA is the device's fault, all else comes from the model and what it was given.
    pub fn torch(what: &str, error: &TchError) -> Self {
        match error {
            TchError::Io(error) => Self::device(format!("{what}: {error}")),
            other => Self::from_text(what, &other.to_string()),
        }
    }

    /// A panic while running; `tch` panics where an operator fails.
    pub fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        match Self::from_text("the worker panicked", text) {
            Self::Invalid { message, .. } => Self::device(message),
            other => other,
        }
    }

    fn from_text(what: &str, text: &str) -> Self {
        let has = |part: &str| text.contains(part);
        let state =
            if has("out of memory") || has("can't allocate memory") || has("CUBLAS_STATUS_ALLOC_FAILED") {
                Some(DeviceState::OutOfMemory)
            } else if has("CUDA error") || has("device-side assert") {
                Some(DeviceState::Broken)
            } else if has("CUDNN_STATUS") || has("CUBLAS_STATUS") || has("cuDNN error") {
                Some(DeviceState::Usable)
            } else {
                None
            };
        let message = format!("{what}: {}", gist(text));
        match state {
            Some(state) => Self::Device { message, state },
            None => Self::model(message),
        }
    }

    /// Whether the process can't go on.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Device { state: DeviceState::Broken, .. })
    }

    /// As the agent is told.
    pub fn to_message(&self, subject: Subject) -> Failed {
        let (class, out_of_memory, pointer) = match self {
            Self::Invalid { pointer, .. } => (Class::Invalid, false, pointer.clone()),
            Self::Device { state, .. } => (Class::Transient, *state == DeviceState::OutOfMemory, None),
            Self::Cancelled => (Class::Evicted, false, None),
        };
        Failed { subject, class, out_of_memory, message: self.to_string(), pointer }
    }
}

impl From<InputFault> for Failure {
    fn from(fault: InputFault) -> Self {
        Self::Invalid { message: fault.to_string(), pointer: Some(fault.pointer.to_string()) }
    }
}

/// The lines that say something: libtorch's messages end in a stack trace of its own, and those of TorchScript begin
/// with one of the script, whose places are marked and indented, so that the cause stands after it.
fn gist(text: &str) -> String {
    const LONGEST: usize = 600;
    const PLACE: &str = "<--- HERE";
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(text);
    let body = text.split("\nException raised from ").next().unwrap_or(text);
    let cause = match body.rfind(PLACE) {
        Some(at) => {
            let lines = body[at + PLACE.len()..].lines();
            let lines = lines.skip_while(|line| line.is_empty() || line.starts_with(' '));
            lines.collect::<Vec<_>>().join("\n")
        }
        None => body.lines().next().unwrap_or(body).to_owned(),
    };
    let cause: String = cause.trim().chars().take(LONGEST).collect();
    if cause.is_empty() { "no message".into() } else { cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torch(text: &str) -> Failure {
        Failure::torch("denoiser.pt", &TchError::Torch(text.into()))
    }

    #[test]
    fn memory_is_transient_and_flagged() {
        let failed =
            torch("CUDA out of memory. Tried to allocate 20.00 MiB.\nException raised from malloc at x.cpp")
                .to_message(Subject::Run("r".into()));
        assert_eq!((failed.class, failed.out_of_memory), (Class::Transient, true));
        assert_eq!(failed.message, "denoiser.pt: CUDA out of memory. Tried to allocate 20.00 MiB.");
    }

    #[test]
    fn a_broken_device_ends_the_process() {
        assert!(torch("CUDA error: an illegal memory access was encountered").is_fatal());
        assert!(!torch("CUDA out of memory").is_fatal());
    }

    #[test]
    fn the_rest_is_the_models_fault_and_its_cause_is_told() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript\n  File x.py, line 3\n    y = a + b\n        ~~~~~ <--- HERE\n    return y\nRuntimeError: The size of tensor a (3) must match\n";
        let failure = torch(text);
        assert_eq!(failure.to_string(), "denoiser.pt: RuntimeError: The size of tensor a (3) must match");
        assert!(matches!(failure, Failure::Invalid { .. }));
    }

    #[test]
    fn a_panic_is_never_the_inputs_fault() {
        let failure = Failure::panic(&"index out of bounds");
        assert!(matches!(failure, Failure::Device { state: DeviceState::Usable, .. }));
        let failure = Failure::panic(&String::from("Torch(\"CUDA out of memory\")"));
        assert!(matches!(failure, Failure::Device { state: DeviceState::OutOfMemory, .. }));
    }
}
