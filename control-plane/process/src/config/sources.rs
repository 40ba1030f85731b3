//! What the layers over the defaults are made of: a file, the environment, flags.

use std::fmt;
use std::path::PathBuf;
use toml::Value;

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in `default.toml`.
    Default,
    /// The file of `--config`.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
    /// A flag of the command line, as it is written there.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value that a flag gives to a key.
#[derive(Clone, Debug)]
pub struct Override {
    pub(super) flag: String,
    pub(super) key: String,
    pub(super) value: Value,
}

impl Override {
    /// `flag` (as the user writes it) sets `key`. A text is read as the type of the key, as in a variable.
    pub fn new(flag: impl Into<String>, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { flag: flag.into(), key: key.into(), value: value.into() }
    }

    /// Reads the `KEY=VALUE` of a `--set` flag.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, value) = text.split_once('=')?;
        Some(Self::new(format!("--set {}", key.trim()), key.trim(), value.trim()))
    }
}

/// What the layers over the defaults are made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// The environment; only variables that start with `SPRINGTIDE__` count.
    pub environment: Vec<(String, String)>,
    /// What flags say; the last one wins.
    pub overrides: Vec<Override>,
}

impl Sources {
    /// The given file and flags, and this process's environment.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<Override>) -> Self {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, environment, overrides }
    }
}
