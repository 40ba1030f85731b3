//! Durations in what libraries read of the configuration: seconds as a number, or a number with a unit.
//!
//! Use it on a field: `#[serde(with = "springtide_core::duration")] pub patience: Duration`. `springtide-process`, which
//! reads the files and imports nothing of ours, has the same for the sections of binaries.

use std::fmt;
use std::time::Duration;

use serde::{Deserializer, Serializer, de};

fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim().replace('_', "").parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// Reads a number of seconds, or text such as `"250ms"`, `"5s"`, `"30m"`, `"24h"`, `"7d"`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Visitor)
}

/// Writes seconds as `"1.5s"`.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", value.as_secs_f64()))
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a duration: seconds, or text such as "250ms", "5s", "30m", "24h""#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::invalid_value(de::Unexpected::Float(seconds), &self))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
        u64::try_from(seconds)
            .map(Duration::from_secs)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_and_without_unit() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1.5"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse("30m"), Some(Duration::from_secs(1_800)));
        for text in ["", "s", "5 parsecs", "-1s", "1e400", "NaN"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
