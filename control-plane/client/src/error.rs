//! What can go wrong between a client and a control plane.

use std::path::PathBuf;
use std::time::Duration;

use springtide_core::api::Problem;

use crate::package;

/// A request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control plane refused it, or failed at it, and said why.
    #[error("{}", described(.0))]
    Problem(Box<Problem>),
    /// No connection.
    #[error(
        "{server} can't be reached; is `springtide up` running there? --server and SPRINGTIDE_SERVER name another address"
    )]
    Unreachable {
        /// The address.
        server: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The connection broke halfway: whether the request had an effect is not known.
    #[error("the connection to {server} broke during {request}")]
    Broken {
        /// The address.
        server: String,
        /// Method and path.
        request: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("{server} did not answer {request} within {} s", .limit.as_secs_f64())]
    Timeout {
        /// The address.
        server: String,
        /// Method and path.
        request: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is none that a control plane gives.
    #[error(
        "{server} answered {request} with something that is not understood ({message}); is it a Springtide control plane of this version?"
    )]
    Protocol {
        /// The address.
        server: String,
        /// Method and path.
        request: String,
        /// What is wrong with it.
        message: String,
    },
    /// The bytes that came are not the ones that were announced.
    #[error("{url} did not arrive whole: its SHA-256 is {found}, not {expected}")]
    Checksum {
        /// Where the bytes are.
        url: String,
        /// As announced.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// The output is no file: it stands in the job itself.
    #[error("output {0} is no file; it stands in the job's outputs")]
    NoFile(u64),
    /// What came can't be written.
    #[error("can't write {path}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model directory can't be sent.
    #[error(transparent)]
    Package(#[from] package::Error),
    /// The settings can't be used.
    #[error("{0}")]
    Options(String),
}

impl Error {
    /// Whether the control plane can't be reached for now, through no fault of the request.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Timeout { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 502..=504),
            _ => false,
        }
    }

    /// The status of the problem document, if it is one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }
}

fn described(problem: &Problem) -> String {
    let text = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let field = match problem.pointer.as_deref() {
        Some(pointer) if !pointer.is_empty() => {
            format!("{}: ", pointer.trim_start_matches('/').replace('/', "."))
        }
        _ => String::new(),
    };
    let hint = match problem.status {
        401 => "; set SPRINGTIDE_TOKEN (`springtide tokens create NAME` makes a token)",
        _ => "",
    };
    format!("{field}{text}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, pointer: Option<&str>) -> Error {
        Error::Problem(Box::new(Problem {
            r#type: "urn:springtide:problem:invalid".into(),
            title: "Invalid".into(),
            status,
            detail: "must be at most 1000".into(),
            pointer: pointer.map(str::to_owned),
        }))
    }

    #[test]
    fn a_problem_names_the_field_and_what_to_do() {
        assert_eq!(problem(422, Some("/input/steps")).to_string(), "input.steps: must be at most 1000");
        assert!(problem(401, None).to_string().contains("SPRINGTIDE_TOKEN"));
        assert!(problem(503, None).is_unreachable() && !problem(422, None).is_unreachable());
    }
}
