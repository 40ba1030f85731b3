//! Alerts that are obeyed: each raises a pool's floor, or freezes it, for a time. They stand above the strategy and below
//! `min`, `max` and budget, which the planner holds.
//!
//! An alert says by its labels what it wants:
//!
//! | label | |
//! |---|---|
//! | `springtide_pool` | the pool |
//! | `springtide_action` | `floor`: at least so many nodes; `scale_up`: so many more than there are when it first fires; `freeze`: neither launch nor drain |
//! | `springtide_nodes` | how many, for `floor` and `scale_up` |
//! | `springtide_for` | how long it holds unless it is said again, such as `10m`; `autoscaler.alerts.hold` if absent |
//!
//! It ends when it is resolved, when it is not said again in time, or when its `endsAt` is past.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use springtide_core::Timestamp;
use springtide_planner::Override;
use springtide_process::config::duration;

/// Most nodes that an alert may name: what a pool may have.
const MOST_NODES: u32 = 100_000;

/// What Alertmanager's webhook sends (version 4), as far as it is used here.
#[derive(Clone, Debug, Deserialize)]
pub struct Notification {
    /// `4`.
    pub version: String,
    /// The alerts of a group.
    pub alerts: Vec<Alert>,
}

/// An alert.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// `firing` or `resolved`.
    pub status: String,
    /// What tells it from others, and what it wants.
    pub labels: BTreeMap<String, String>,
    /// What tells it from others; made of the labels if absent.
    #[serde(default)]
    pub fingerprint: String,
    /// When it began.
    pub starts_at: Timestamp,
    /// When it ends; in the year 1 if that is not known.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

/// Why an alert is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A label is missing or says nothing that is known.
    #[error("the label `{label}` {problem}")]
    Label {
        /// Which.
        label: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The status is none.
    #[error("the status `{0}` is neither `firing` nor `resolved`")]
    Status(String),
    /// Too many.
    #[error("{0} alerts are obeyed already (autoscaler.alerts.cap)")]
    Full(usize),
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is obeyed from now on.
    New,
    /// It was known, and holds for longer.
    Again,
    /// It is over.
    Resolved,
    /// It was resolved, and not known.
    Unknown,
}

/// How long alerts hold, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Unless a label says otherwise.
    pub hold: Duration,
    /// The longest that a label may say.
    pub hold_max: Duration,
    /// So many at once.
    pub cap: usize,
}

/// The alerts that are obeyed.
#[derive(Debug)]
pub struct Book {
    rule: Rule,
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    pool: String,
    wish: Wish,
    starts_at: Timestamp,
    until: Timestamp,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Floor(u32),
    Freeze,
}

/// What is known of a pool when an alert about it comes.
#[derive(Clone, Copy, Debug)]
pub struct Target(pub u32);

impl Book {
    /// An empty one.
    pub fn new(rule: Rule) -> Self {
        Self { rule, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an alert. `target` says at how many nodes a pool aims now; `None`: there is no such pool.
    pub fn take(
        &self,
        alert: &Alert,
        target: impl Fn(&str) -> Option<Target>,
        now: Timestamp,
    ) -> Result<Taken, Refused> {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.until > now);
        let key = alert.key();
        match alert.status.as_str() {
            "resolved" => {
                return Ok(if entries.remove(&key).is_some() { Taken::Resolved } else { Taken::Unknown });
            }
            "firing" => {}
            other => return Err(Refused::Status(other.chars().take(40).collect())),
        }
        let pool = alert.label("springtide_pool")?;
        let Some(Target(target)) = target(pool) else {
            let problem = format!("names `{}`, which is no pool", pool.chars().take(100).collect::<String>());
            return Err(Refused::Label { label: "springtide_pool", problem });
        };
        let until = now + alert.holds_for(&self.rule)?;
        // Alertmanager says the year 1 while it fires.
        let until = alert.ends_at.filter(|ends| *ends > now).map_or(until, |ends| ends.min(until));
        // The same alert, said again, does not scale up again; one that began anew does.
        let known = entries.get(&key).filter(|entry| entry.starts_at == alert.starts_at);
        let known = known.map(|entry| entry.wish);
        if known.is_none() && !entries.contains_key(&key) && entries.len() >= self.rule.cap {
            return Err(Refused::Full(self.rule.cap));
        }
        let wish = match known {
            Some(wish) => wish,
            None => alert.wish(target)?,
        };
        let name = alert.labels.get("alertname").map_or("an alert", String::as_str);
        let reason = format!("alert {}", name.chars().take(100).collect::<String>());
        let entry = Entry { pool: pool.to_owned(), wish, starts_at: alert.starts_at, until, reason };
        entries.insert(key, entry);
        Ok(if known.is_some() { Taken::Again } else { Taken::New })
    }

    /// What is wished for a pool now.
    pub fn overrides(&self, pool: &str, now: Timestamp) -> Vec<Override> {
        let entries = self.lock();
        let held = entries.values().filter(|entry| entry.pool == pool && entry.until > now);
        let wish = |entry: &Entry| {
            let (until, reason) = (entry.until, entry.reason.clone());
            match entry.wish {
                Wish::Floor(nodes) => Override::Floor { nodes, until, reason },
                Wish::Freeze => Override::Freeze { until, reason },
            }
        };
        held.map(wish).collect()
    }

    /// How many alerts are obeyed.
    pub fn len(&self, now: Timestamp) -> usize {
        self.lock().values().filter(|entry| entry.until > now).count()
    }
}

impl Alert {
    fn key(&self) -> String {
        if !self.fingerprint.is_empty() {
            return self.fingerprint.chars().take(200).collect();
        }
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(",").chars().take(1000).collect()
    }

    fn label(&self, label: &'static str) -> Result<&str, Refused> {
        let value = self.labels.get(label).map(String::as_str);
        value.ok_or_else(|| Refused::Label { label, problem: "is missing".to_owned() })
    }

    fn holds_for(&self, rule: &Rule) -> Result<Duration, Refused> {
        let Some(text) = self.labels.get("springtide_for") else { return Ok(rule.hold) };
        let time = duration::parse(text).filter(|time| !time.is_zero());
        let time = time.ok_or_else(|| Refused::Label {
            label: "springtide_for",
            problem: "is no duration such as `10m`".to_owned(),
        })?;
        Ok(time.min(rule.hold_max))
    }

    fn wish(&self, target: u32) -> Result<Wish, Refused> {
        match self.label("springtide_action")? {
            "floor" => self.nodes().map(Wish::Floor),
            "scale_up" => self.nodes().map(|nodes| Wish::Floor(target.saturating_add(nodes))),
            "freeze" => Ok(Wish::Freeze),
            other => {
                let problem = format!(
                    "is `{}`; it has to be floor, scale_up or freeze",
                    other.chars().take(40).collect::<String>()
                );
                Err(Refused::Label { label: "springtide_action", problem })
            }
        }
    }

    fn nodes(&self) -> Result<u32, Refused> {
        let nodes = self.label("springtide_nodes")?.parse().ok().filter(|nodes| *nodes <= MOST_NODES);
        nodes.ok_or_else(|| Refused::Label {
            label: "springtide_nodes",
            problem: format!("is no whole number up to {MOST_NODES}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { hold: Duration::from_mins(10), hold_max: Duration::from_hours(1), cap: 2 };

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_micros(minutes * 60_000_000)
    }

    fn alert(name: &str, labels: &[(&str, &str)]) -> Alert {
        let mut all = BTreeMap::from([
            ("alertname".to_owned(), name.to_owned()),
            ("springtide_pool".to_owned(), "gpu".to_owned()),
            ("springtide_action".to_owned(), "scale_up".to_owned()),
            ("springtide_nodes".to_owned(), "3".to_owned()),
        ]);
        all.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let status = "firing".to_owned();
        Alert { status, labels: all, fingerprint: name.to_owned(), starts_at: at(0), ends_at: None }
    }

    fn floors(book: &Book, now: Timestamp) -> Vec<u32> {
        let nodes = |wish: Override| match wish {
            Override::Floor { nodes, .. } => nodes,
            Override::Freeze { .. } => 0,
        };
        book.overrides("gpu", now).into_iter().map(nodes).collect()
    }

    #[test]
    fn an_alert_that_is_repeated_scales_up_once_and_ends_in_time() {
        let book = Book::new(RULE);
        let take = |target: u32, now| book.take(&alert("a", &[]), |_| Some(Target(target)), now);
        assert_eq!(take(2, at(0)), Ok(Taken::New));
        assert_eq!(take(5, at(8)), Ok(Taken::Again));
        assert_eq!(floors(&book, at(17)), [5], "two and three, not eight");
        assert_eq!(floors(&book, at(18)), [0; 0], "ten minutes after it was said last");
        assert_eq!(take(1, at(20)), Ok(Taken::New));
        assert_eq!(floors(&book, at(20)), [4]);
    }

    #[test]
    fn a_resolved_alert_is_over() {
        let book = Book::new(RULE);
        let target = |_: &str| Some(Target(0));
        book.take(&alert("a", &[]), target, at(0)).unwrap();
        let resolved = Alert { status: "resolved".to_owned(), ..alert("a", &[]) };
        assert_eq!(book.take(&resolved, target, at(1)), Ok(Taken::Resolved));
        assert_eq!(book.take(&resolved, target, at(1)), Ok(Taken::Unknown));
        assert_eq!(book.len(at(1)), 0);
    }

    #[test]
    fn no_more_than_the_cap_and_no_longer_than_the_limit() {
        let book = Book::new(RULE);
        let target = |_: &str| Some(Target(0));
        let long = [("springtide_for", "7d"), ("springtide_action", "floor")];
        book.take(&alert("a", &long), target, at(0)).unwrap();
        book.take(&alert("b", &[]), target, at(0)).unwrap();
        assert_eq!(book.take(&alert("c", &[]), target, at(0)), Err(Refused::Full(2)));
        assert_eq!(book.take(&alert("c", &[]), target, at(30)), Ok(Taken::New), "b is over");
        assert_eq!(floors(&book, at(59)), [3]);
        assert_eq!(floors(&book, at(60)), [0; 0]);
    }

    #[test]
    fn what_is_wrong_with_labels_is_said() {
        let book = Book::new(RULE);
        let message = |labels: &[(&str, &str)]| {
            let target = |pool: &str| (pool == "gpu").then_some(Target(0));
            book.take(&alert("a", labels), target, at(0)).unwrap_err().to_string()
        };
        assert_eq!(
            message(&[("springtide_pool", "x")]),
            "the label `springtide_pool` names `x`, which is no pool"
        );
        assert!(message(&[("springtide_action", "down")]).contains("floor, scale_up or freeze"));
        for bad in ["-1", "many", "1e9", ""] {
            assert!(message(&[("springtide_nodes", bad)]).contains("whole number"), "{bad}");
        }
        assert!(message(&[("springtide_for", "soon")]).contains("no duration"));
        let odd = Alert { status: "pending".to_owned(), ..alert("a", &[]) };
        assert!(book.take(&odd, |_| None, at(0)).unwrap_err().to_string().contains("pending"));
    }
}
