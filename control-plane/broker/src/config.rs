//! The section `[broker]` of the configuration.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// How to reach the broker, and how long to wait for it. Durations are numbers of seconds or text: `"250ms"`, `"5s"`,
/// `"30m"`, `"24h"`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`, `amqps://…`, or `memory:` for a broker inside this process.
    pub url: String,
    /// AMQP heartbeat, in whole seconds. RabbitMQ looks once in each and gives a peer up that was silent for two whole
    /// ones: at 3 s another control plane takes the events over 6 to 9 s after a freeze.
    #[serde(deserialize_with = "springtide_core::duration::deserialize")]
    pub heartbeat: Duration,
    /// One attempt to connect.
    #[serde(deserialize_with = "springtide_core::duration::deserialize")]
    pub connect_timeout: Duration,
    /// The longest pause between two attempts. They begin at 100 ms and double, jittered.
    #[serde(deserialize_with = "springtide_core::duration::deserialize")]
    pub reconnect_delay_max: Duration,
    /// How long a publication (with its confirm) or another request to the broker may take, waiting for a connection
    /// included.
    #[serde(deserialize_with = "springtide_core::duration::deserialize")]
    pub publish_timeout: Duration,
    /// How many publications may be without a confirm at once.
    pub publish_window: u32,
    /// How many event messages the leader holds unacked. Read by the control plane.
    pub events_prefetch: u16,
    /// The broker's `consumer_timeout`: it closes a channel that holds a delivery unacked for so long. Read by agents.
    #[serde(deserialize_with = "springtide_core::duration::deserialize")]
    pub ack_timeout: Duration,
    /// How many unreadable messages `springtide.dead` keeps; the oldest go first.
    pub dead_cap: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            heartbeat: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(10),
            reconnect_delay_max: Duration::from_secs(1),
            publish_timeout: Duration::from_secs(10),
            publish_window: 1024,
            events_prefetch: 1000,
            ack_timeout: Duration::from_mins(30),
            dead_cap: 10_000,
        }
    }
}

/// A value in `[broker]` that can't work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker.{key}: {problem}")]
pub struct InvalidConfig {
    /// The key.
    pub key: &'static str,
    /// What is wrong, and what it should be.
    pub problem: String,
}

impl Config {
    /// Whether the broker is one inside this process.
    pub fn is_memory(&self) -> bool {
        self.url == "memory:"
    }

    /// The URL without its password, for people.
    pub fn address(&self) -> String {
        let Some(start) = self.url.find("://").map(|at| at + 3) else { return self.url.clone() };
        // Up to the last `@`, so that a password with a stray `@` in it does not show its end.
        let Some(end) = self.url.rfind('@').filter(|end| *end > start) else { return self.url.clone() };
        match self.url[start..end].find(':') {
            Some(colon) => format!("{}***{}", &self.url[..=start + colon], &self.url[end..]),
            None => self.url.clone(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.address())
            .field("heartbeat", &self.heartbeat)
            .field("connect_timeout", &self.connect_timeout)
            .field("reconnect_delay_max", &self.reconnect_delay_max)
            .field("publish_timeout", &self.publish_timeout)
            .field("publish_window", &self.publish_window)
            .field("events_prefetch", &self.events_prefetch)
            .field("ack_timeout", &self.ack_timeout)
            .field("dead_cap", &self.dead_cap)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn durations_are_numbers_or_text() {
        let config = read(r#"{"heartbeat": 2, "publish_timeout": "250ms", "ack_timeout": "30m"}"#).unwrap();
        assert_eq!(config.heartbeat, Duration::from_secs(2));
        assert_eq!(config.publish_timeout, Duration::from_millis(250));
        assert_eq!(config.ack_timeout, Duration::from_mins(30));
        assert!(read(r#"{"heartbeat": "soon"}"#).is_err());
        assert!(read(r#"{"heartbeat": -1}"#).is_err());
    }

    #[test]
    fn the_defaults_are_those_of_the_built_in_file() {
        #[derive(Deserialize)]
        struct File {
            broker: Config,
        }
        let file: File = toml::from_str(include_str!("../../../configs/default.toml")).unwrap();
        assert_eq!(file.broker, Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        assert!(read(r#"{"heartbaet": 2}"#).unwrap_err().to_string().contains("heartbaet"));
    }

    #[test]
    fn the_password_is_never_printed() {
        let config = Config { url: "amqp://user:pa@ss@host:5672/v".to_owned(), ..Config::default() };
        assert_eq!(config.address(), "amqp://user:***@host:5672/v");
        assert!(!format!("{config:?}").contains("pa@ss"));
        assert_eq!(Config::default().address(), "memory:");
    }
}
