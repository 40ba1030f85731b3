//! Other limits at certain times of the day and days of the week.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use springtide_core::Timestamp;

const DAY: i64 = 86_400;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// 1970-01-01, from which days are counted, was a Thursday.
const FROM_EPOCH: [Weekday; 7] =
    [Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun, Weekday::Mon, Weekday::Tue, Weekday::Wed];

/// Limits of a pool that hold on some days from one time to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// The days on which it begins; empty: every day.
    pub days: Vec<Weekday>,
    /// When it begins, `"HH:MM"`.
    pub from: TimeOfDay,
    /// When it ends, `"HH:MM"`; at or before `from`: on the next day.
    pub until: TimeOfDay,
    /// How far these times are ahead of UTC, in minutes.
    pub utc_offset_minutes: i32,
    /// Fewest nodes.
    pub min: Option<u32>,
    /// Most nodes; never above the pool's own `max`.
    pub max: Option<u32>,
    /// Warm spares.
    pub warm_spares: Option<u32>,
}

impl Default for Schedule {
    fn default() -> Self {
        let midnight = TimeOfDay { minutes: 0 };
        Self {
            days: Vec::new(),
            from: midnight,
            until: midnight,
            utc_offset_minutes: 0,
            min: None,
            max: None,
            warm_spares: None,
        }
    }
}

impl Schedule {
    /// Whether it holds now.
    pub fn holds(&self, now: Timestamp) -> bool {
        let local = now.as_micros().div_euclid(1_000_000) + i64::from(self.utc_offset_minutes) * 60;
        let (day, minute) = (local.div_euclid(DAY), local.rem_euclid(DAY) / 60);
        let (from, until) = (i64::from(self.from.minutes), i64::from(self.until.minutes));
        let begins_on = |day: i64| {
            let weekday = FROM_EPOCH[day.rem_euclid(7) as usize];
            self.days.is_empty() || self.days.contains(&weekday)
        };
        if from < until {
            return begins_on(day) && (from..until).contains(&minute);
        }
        (begins_on(day) && minute >= from) || (begins_on(day - 1) && minute < until)
    }
}

/// A time of the day, to the minute; written `"HH:MM"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    minutes: u32,
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.minutes / 60, self.minutes % 60))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once(':').and_then(|(hour, minute)| {
            let two = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
            Some((two(hour)?, two(minute)?))
        });
        match parts {
            Some((hour, minute)) if hour < 24 && minute < 60 => Ok(Self { minutes: hour * 60 + minute }),
            _ => Err(serde::de::Error::custom(format!("`{text}` is no time of day such as \"08:30\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn holds_over_midnight_from_the_day_it_begins() {
        let night: Schedule =
            toml::from_str("days = [\"fri\"]\nfrom = \"22:00\"\nuntil = \"06:00\"\nmin = 3").unwrap();
        // 2026-07-31 is a Friday.
        for (time, expected) in [
            ("2026-07-31T21:59:59Z", false),
            ("2026-07-31T22:00:00Z", true),
            ("2026-08-01T05:59:59Z", true),
            ("2026-08-01T06:00:00Z", false),
            ("2026-08-01T23:00:00Z", false),
        ] {
            assert_eq!(night.holds(at(time)), expected, "{time}");
        }
    }

    #[test]
    fn times_are_local() {
        let day: Schedule =
            toml::from_str("from = \"08:00\"\nuntil = \"18:00\"\nutc_offset_minutes = 120").unwrap();
        assert!(day.holds(at("2026-07-31T06:00:00Z")) && !day.holds(at("2026-07-31T16:00:00Z")));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["24:00", "8:00", "08:60", "noon"] {
            assert!(toml::from_str::<Schedule>(&format!("from = \"{bad}\"")).is_err(), "{bad}");
        }
    }
}
