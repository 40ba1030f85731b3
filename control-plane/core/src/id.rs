//! Identifiers. Each is a type of its own, so that a node can't be passed where a job is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::time::Timestamp;

/// A text is not a valid identifier of the named kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}: {expected}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

fn invalid(kind: &'static str, text: &str, expected: &'static str) -> InvalidId {
    InvalidId { kind, text: text.chars().take(80).collect(), expected }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// A new id: sorts by `now`, told apart by `random`.
            pub fn new(now: Timestamp, random: u128) -> Self {
                Self(Ulid::from_parts(now.as_millis(), random))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let expected = concat!("it is `", $prefix, "` and 26 characters of a ULID");
                let ulid = text.strip_prefix($prefix).ok_or_else(|| invalid($kind, text, expected))?;
                Ulid::from_string(ulid).map(Self).map_err(|_| invalid($kind, text, expected))
            }
        }
        text_serde!($name);
    };
}

ulid_id!(
    /// A job, for example `job_01J9ZQ2Y9V5K8T0X3M4N6P7R8S`.
    JobId,
    "job_",
    "job id"
);
ulid_id!(
    /// One execution of one attempt on one node.
    RunId,
    "run_",
    "run id"
);
ulid_id!(
    /// One start of one agent. A node that restarts keeps its [`NodeId`] and gets a new incarnation.
    Incarnation,
    "inc_",
    "incarnation"
);

impl Incarnation {
    /// A new one that is later than the one `before` it, also where the clock was set back in between.
    #[must_use]
    pub fn after(before: Option<Self>, now: Timestamp, random: u128) -> Self {
        let fresh = Self::new(now, random);
        match before {
            Some(before) if before >= fresh => Self(Ulid(before.0.0.saturating_add(1))),
            _ => fresh,
        }
    }
}

/// A task: its job and its position in it, written `JOB/INDEX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The job it belongs to.
    pub job: JobId,
    /// Its position in the job, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl FromStr for TaskId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parts = text
            .split_once('/')
            .and_then(|(job, index)| Some(Self { job: job.parse().ok()?, index: index.parse().ok()? }));
        parts.ok_or_else(|| invalid("task id", text, "it is `JOB/INDEX`, for example job_01J9…/17"))
    }
}
text_serde!(TaskId);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_name($kind, text).map(|()| Self(text.to_owned()))
            }
        }
        text_serde!($name);
    };
}

/// Names become parts of paths, object keys and queue names, so they are kept to a set that is safe in all of them.
fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= 100 && text.chars().all(safe) {
        Ok(())
    } else {
        Err(invalid(kind, text, "1 to 100 of a-z A-Z 0-9 . _ -, starting with a letter or digit"))
    }
}

name_id!(
    /// A node: its provider's instance id.
    NodeId,
    "node id"
);
name_id!(
    /// A lane: a class of machine and the queue that serves it.
    LaneName,
    "lane name"
);

/// A model at a version, written `NAME@VERSION`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId {
    name: String,
    version: String,
}

impl ModelId {
    /// From its parts; both follow the rules of names.
    pub fn new(name: &str, version: &str) -> Result<Self, InvalidId> {
        check_name("model name", name)?;
        check_name("model version", version)?;
        Ok(Self { name: name.to_owned(), version: version.to_owned() })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The prefix of its files in the object store.
    pub fn object_prefix(&self) -> String {
        format!("models/{}/{}", self.name, self.version)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for ModelId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (name, version) =
            text.split_once('@').ok_or_else(|| invalid("model", text, "it is `NAME@VERSION`"))?;
        Self::new(name, version)
    }
}
text_serde!(ModelId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let job = JobId::new(Timestamp::from_micros(1_700_000_000_000_000), 7);
        let task = TaskId { job, index: 17 };
        assert_eq!(task.to_string().parse::<TaskId>().unwrap(), task);
        assert_eq!("shapes@1".parse::<ModelId>().unwrap().object_prefix(), "models/shapes/1");
    }

    #[test]
    fn what_could_leave_a_directory_is_no_name() {
        for bad in ["", "..", "../x", "a/b", ".hidden", "a b", "a\n", &"x".repeat(101)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
            assert!(ModelId::new(bad, "1").is_err(), "{bad:?}");
        }
    }
}
