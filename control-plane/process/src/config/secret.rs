//! Values that must not appear in logs, errors or `config show`.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// What is printed in a secret's place.
pub const MASK: &str = "***";

/// A secret text. Prints and serialises as `***`; [`Secret::reveal`] is the only way to its value.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, to be handed to whatever authenticates with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether none was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A URL that may carry a password. Prints and serialises with `***` in the password's place.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The URL with its password, to be handed to whatever connects to it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

macro_rules! print_masked {
    ($type:ty, $masked:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$masked(&self.0))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", $masked(&self.0))
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$masked(&self.0))
            }
        }
    };
}
print_masked!(Secret, mask);
print_masked!(SecretUrl, mask_url);

/// Whether a key's name says that its value is secret.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    ["secret", "password", "token", "access_key"].iter().any(|word| name.contains(word))
}

fn mask(value: &str) -> String {
    if value.is_empty() { String::new() } else { MASK.to_owned() }
}

/// The URL with its password masked, both `user:password@` and a `password=` parameter.
pub fn mask_url(url: &str) -> String {
    mask_parameter(&mask_user_info(url))
}

/// Masks up to the *last* `@`, so that a password with a stray `@` or `/` in it does not leak its end.
fn mask_user_info(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else { return url.to_owned() };
    let Some(end) = url.rfind('@').filter(|end| *end > start) else { return url.to_owned() };
    match url[start..end].find(':') {
        Some(colon) => format!("{}{MASK}{}", &url[..=start + colon], &url[end..]),
        None => url.to_owned(),
    }
}

fn mask_parameter(url: &str) -> String {
    const NAME: &str = "password=";
    let Some(start) = url.find(NAME).map(|at| at + NAME.len()) else { return url.to_owned() };
    let end = url[start..].find(['&', ' ']).map_or(url.len(), |length| start + length);
    format!("{}{MASK}{}", &url[..start], &url[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {}", toml::Value::try_from(&secret).unwrap()),
            r#"*** "***" "***""#
        );
        assert_eq!(secret.reveal(), "hunter2");
        assert_eq!(Secret::default().to_string(), "");
    }

    #[test]
    fn a_url_prints_without_its_password() {
        for (url, printed) in [
            ("amqp://guest:guest@host:5672/%2f", "amqp://guest:***@host:5672/%2f"),
            ("amqp://u:p@ss/wo:rd@host", "amqp://u:***@host"),
            ("amqp://user@host", "amqp://user@host"),
            ("postgres://host/db?user=a&password=b&x=1", "postgres://host/db?user=a&password=***&x=1"),
            ("host=h password=abc dbname=d", "host=h password=*** dbname=d"),
            ("sqlite:jobs.db", "sqlite:jobs.db"),
            ("memory:", "memory:"),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), printed);
        }
    }
}
