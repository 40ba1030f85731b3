//! Sizes in configuration: a number of bytes, or text such as `"64KiB"`, `"8GiB"`, `"500MB"`.
//!
//! Use it on a field: `#[serde(with = "springtide_process::config::size")] pub cache_bytes: u64`.

use serde::{Deserializer, Serializer, de};
use std::fmt;

/// What a value has to look like, for error messages.
pub(crate) const EXPECTED: &str = r#"a size: bytes, or text such as "64KiB", "8GiB""#;

/// Reads `64KiB`, `1.5GiB`, `500MB`, `512B`, or a plain number of bytes.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let number = number.trim().replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    // 2^53: up to there a float holds every whole number.
    (bytes >= 0.0 && bytes <= (1_u64 << 53) as f64).then_some(bytes.round() as u64)
}

/// Reads a size from a number or text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Visitor)
}

/// Writes bytes as a number.
pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*value)
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_and_without_unit() {
        assert_eq!(parse("64KiB"), Some(65_536));
        assert_eq!(parse("1.5GiB"), Some(1_610_612_736));
        assert_eq!(parse("500 MB"), Some(500_000_000));
        assert_eq!(parse("1_024"), Some(1_024));
        assert_eq!(parse("0"), Some(0));
    }

    #[test]
    fn what_is_no_size() {
        for text in ["", "KiB", "-1", "8 gigs", "5s", "99999999999TiB", "inf"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
