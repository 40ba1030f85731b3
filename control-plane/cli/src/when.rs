//! Times, durations and sizes as people read them.

use std::time::Duration;

use springtide_core::Timestamp;

/// How long, in two units at most: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match seconds {
        _ if duration < Duration::from_millis(9_950) => format!("{:.1} s", duration.as_secs_f64()),
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// The same, of a number of seconds; numbers that are no duration give nothing.
pub fn seconds(seconds: f64) -> Option<String> {
    Duration::try_from_secs_f64(seconds).ok().map(span)
}

/// How long ago.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let since = now.since(time);
    if since < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", span(since)) }
}

/// A size: `812 B`, `4.0 KiB`, `6.8 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let said: Vec<String> =
            [0.04, 9.94, 9.96, 59.6, 185.0, 7200.0, 7800.0, 356_400.0].map(|s| seconds(s).unwrap()).into();
        assert_eq!(said, ["0.0 s", "9.9 s", "10 s", "1 min", "3 min 5 s", "2 h", "2 h 10 min", "4 d 3 h"]);
        assert_eq!(seconds(f64::NAN), None);
        assert_eq!(seconds(-1.0), None);
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!([0, 1023, 1024, 7_130_317].map(size), ["0 B", "1023 B", "1.0 KiB", "6.8 MiB"]);
    }

    #[test]
    fn a_clock_that_runs_behind_says_now() {
        let now = Timestamp::from_micros(0);
        assert_eq!(ago(now + Duration::from_secs(5), now), "now");
        assert_eq!(ago(now, now + Duration::from_secs(5)), "5.0 s ago");
    }
}
