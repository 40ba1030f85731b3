//! What is wrong with an input, and where.

use std::fmt;

/// A JSON pointer (RFC 6901) into a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(String);

impl Pointer {
    /// The whole document.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// The pointer to a member or an element of what this one points to.
    #[must_use]
    pub fn join(&self, part: impl fmt::Display) -> Self {
        let part = part.to_string().replace('~', "~0").replace('/', "~1");
        Self(format!("{}/{part}", self.0))
    }

    /// This pointer, seen from further out.
    #[must_use]
    pub fn under(&self, outer: &Self) -> Self {
        Self(format!("{}{}", outer.0, self.0))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One field of an input is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct InputFault {
    /// The field, from the root of the input.
    pub pointer: Pointer,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl InputFault {
    /// A fault of the field at `pointer`.
    pub fn new(pointer: Pointer, message: impl Into<String>) -> Self {
        Self { pointer, message: message.into() }
    }

    /// A fault of a direct member of the input.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self::new(Pointer::root().join(name), message)
    }
}

/// Reads a value into a type; the fault points at the field that does not fit.
pub fn read<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<T, InputFault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer_of(error.path());
        InputFault::new(pointer, error.into_inner().to_string())
    })
}

/// The JSON pointer to where a deserializer stopped.
pub fn pointer_of(path: &serde_path_to_error::Path) -> Pointer {
    use serde_path_to_error::Segment;
    path.iter().fold(Pointer::root(), |pointer, segment| match segment {
        Segment::Seq { index } => pointer.join(index),
        Segment::Map { key } => pointer.join(key),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}
