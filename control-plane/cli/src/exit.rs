//! How the process exits, and what error leads to what.

use std::process::ExitCode;

use springtide_client::Error as ClientError;
use springtide_core::job::JobStatus;

/// How the process exits. The numbers are promised to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All went well.
    Succeeded = 0,
    /// The job failed, or something on this machine.
    Failed = 1,
    /// Wrong usage, or the control plane does not take it.
    Refused = 2,
    /// The job was cancelled.
    Cancelled = 3,
    /// The control plane can't be reached.
    Unreachable = 4,
    /// Ctrl-C while waiting.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// For a job in this state. One that has not ended was not waited for.
    pub fn of_status(status: JobStatus) -> Self {
        match status {
            JobStatus::Queued | JobStatus::Running | JobStatus::Succeeded => Self::Succeeded,
            JobStatus::Failed => Self::Failed,
            JobStatus::Cancelled => Self::Cancelled,
        }
    }

    /// For an error.
    pub fn of_error(error: &anyhow::Error) -> Self {
        if error.downcast_ref::<Usage>().is_some() {
            return Self::Refused;
        }
        match error.downcast_ref::<ClientError>() {
            Some(error) if error.is_unreachable() => Self::Unreachable,
            Some(ClientError::Options(_) | ClientError::Package(_)) => Self::Refused,
            Some(error) if error.status().is_some_and(|status| status < 500) => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// The command line says something that can't be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl From<springtide_process::config::Error> for Usage {
    fn from(error: springtide_process::config::Error) -> Self {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self(format!("{error}{cause}"))
    }
}

/// An error as people read it: what failed, and why. Of what lies below the client's own error only the last says
/// something: the rest is how an HTTP library is built.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    let chain: Vec<_> = error.chain().collect();
    let client = chain.iter().position(|cause| cause.is::<ClientError>()).unwrap_or(chain.len());
    for (at, cause) in chain.iter().enumerate().skip(1) {
        let cause = cause.to_string();
        if (at <= client || at + 1 == chain.len()) && !text.contains(&cause) {
            text.push_str("\n  because: ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn errors_lead_to_their_codes_through_context() {
        let usage: anyhow::Result<()> = Err(Usage("no".into()).into());
        assert_eq!(Exit::of_error(&usage.context("at --input").unwrap_err()), Exit::Refused);
        assert_eq!(Exit::of_error(&anyhow::anyhow!("disk")), Exit::Failed);
        assert_eq!(Exit::of_error(&ClientError::Options("bad".into()).into()), Exit::Refused);
        assert_eq!(Exit::of_status(JobStatus::Cancelled), Exit::Cancelled);
    }

    #[test]
    fn causes_are_said_once() {
        let error = anyhow::anyhow!("no space left").context("can't write a.png");
        assert_eq!(describe(&error), "error: can't write a.png\n  because: no space left");
        assert_eq!(describe(&anyhow::anyhow!("a").context("b: a")), "error: b: a");
    }
}
