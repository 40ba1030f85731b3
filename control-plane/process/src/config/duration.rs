//! Durations in configuration: a number of seconds, or text such as `"250ms"`, `"5s"`, `"30m"`, `"24h"`, `"7d"`.
//!
//! Use it on a field: `#[serde(with = "springtide_process::config::duration")] pub heartbeat: Duration`.

use serde::{Deserializer, Serializer, de};
use std::fmt;
use std::time::Duration;

/// What a value has to look like, for error messages.
pub(crate) const EXPECTED: &str = r#"a duration: seconds, or text such as "250ms", "5s", "30m", "24h""#;

/// Reads `250ms`, `5s`, `1.5s`, `30m`, `24h`, `7d`, or a plain number of seconds.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
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

/// Reads a duration from a number or text.
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
        f.write_str(EXPECTED)
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
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse("30m"), Some(Duration::from_secs(1_800)));
        assert_eq!(parse("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse("1_800"), Some(Duration::from_secs(1_800)));
    }

    #[test]
    fn what_is_no_duration() {
        for text in ["", "s", "5 parsecs", "-1s", "1e400", "NaN", "5KiB"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        struct T(#[serde(with = "super")] Duration);
        let value = T(Duration::from_millis(2_250));
        assert_eq!(toml::Value::try_from(&value).unwrap().try_into::<T>().unwrap(), value);
    }
}
