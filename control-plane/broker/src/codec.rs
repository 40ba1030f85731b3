//! Messages to JSON and back. The one place where bytes from the broker are judged.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Longer error texts are cut: they go into headers.
const MAX_REASON_CHARS: usize = 500;

pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(message).map_err(|e| Error::Unwritable { reason: e.to_string() })
}

pub(crate) fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, Unreadable> {
    serde_json::from_slice(body)
        .map_err(|e| Unreadable { reason: e.to_string().chars().take(MAX_REASON_CHARS).collect() })
}

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) reason: String,
}

/// SHA-256 in hexadecimal, by which the same broken message is recognised.
pub(crate) fn sha256(body: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(body).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use springtide_core::wire::EventMessage;

    #[test]
    fn what_is_of_another_version_is_unreadable_and_says_why() {
        let body = br#"{"type":"marker","v":2,"id":1,"token":1}"#;
        let reason = decode::<EventMessage>(body).unwrap_err().reason;
        assert!(reason.contains("version 2"), "{reason}");
    }

    #[test]
    fn a_long_reason_is_cut() {
        let body = format!("\"{}\"", "é".repeat(10_000));
        assert!(decode::<EventMessage>(body.as_bytes()).unwrap_err().reason.chars().count() <= 500);
    }

    #[test]
    fn sha256_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
