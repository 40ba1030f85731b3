//! What can be wrong with a configuration. All of it is reported at once.

use super::Origin;
use std::fmt;
use std::path::PathBuf;

/// Why no configuration could be loaded, or a section not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of `--config` could not be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of `--config` is no TOML.
    #[error("{path} is not valid TOML: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// Keys or values that cannot be accepted.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One thing that is wrong, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A key that `default.toml` does not have.
    UnknownKey {
        /// The key, with its sections.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The most similar key that there is.
        nearest: Option<String>,
    },
    /// A value of the wrong type or out of range.
    WrongValue {
        /// The key, with its sections.
        key: String,
        /// Where the value stands.
        origin: Origin,
        /// What was found and what is expected.
        message: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, origin, nearest } => {
                write!(f, r#"unknown key "{key}" in {origin}"#)?;
                nearest.as_ref().map_or(Ok(()), |nearest| write!(f, r#"; did you mean "{nearest}"?"#))
            }
            Self::WrongValue { key, origin, message } => write!(f, r#""{key}" in {origin}: {message}"#),
        }
    }
}
