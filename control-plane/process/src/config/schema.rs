//! The known keys and the shape of their values, read off `default.toml`: there is no second list to keep in step.
//!
//! A default of `"5s"` makes a key a duration, `"64KiB"` a size, an empty table a free-form map, an array of tables a
//! list of records whose keys are those that any of its elements has.

use super::{duration, secret, size};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// What may stand under a key.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A table of known keys.
    Section(BTreeMap<String, Shape>),
    /// A table of any keys, each with a text, number or boolean.
    Map,
    /// An array of tables of known keys; a layer that names it replaces all of it.
    Records(BTreeMap<String, Shape>),
    /// An array of values of one kind; likewise.
    List(Kind),
    /// One value.
    Leaf(Kind),
}

/// The kind of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    Number,
    Duration,
    Size,
    Text,
}

impl Shape {
    /// The shape that a default value stands for.
    pub(super) fn of(default: &Value) -> Self {
        match default {
            Value::Table(table) if table.is_empty() => Self::Map,
            Value::Table(table) => Self::section(table),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                Self::Records(items.iter().filter_map(Value::as_table).flatten().fold(
                    BTreeMap::new(),
                    |mut fields, (k, v)| {
                        // Of two defaults the more telling one decides: `"22GiB"` makes a size of what is `0` elsewhere.
                        let shape = Self::of(v);
                        if !fields.contains_key(k) || matches!(shape, Self::Leaf(Kind::Size | Kind::Duration))
                        {
                            fields.insert(k.clone(), shape);
                        }
                        fields
                    },
                ))
            }
            Value::Array(items) => Self::List(items.first().map_or(Kind::Text, Kind::of)),
            scalar => Self::Leaf(Kind::of(scalar)),
        }
    }

    pub(super) fn section(table: &Table) -> Self {
        Self::Section(table.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect())
    }

    /// The shape under a path of keys, if there is one.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        match (self, path) {
            (_, []) => Some(self),
            (Self::Section(children), [key, rest @ ..]) => children.get(*key)?.at(rest),
            (Self::Map, [_]) => Some(&Self::Leaf(Kind::Text)),
            _ => None,
        }
    }

    /// Every key that there is, sections included, with dots.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        self.collect_keys("", &mut keys);
        keys
    }

    fn collect_keys(&self, prefix: &str, keys: &mut Vec<String>) {
        if let Self::Section(children) | Self::Records(children) = self {
            for (key, child) in children {
                let key = join(prefix, key);
                child.collect_keys(&key, keys);
                keys.push(key);
            }
        }
    }

    /// The value with each size as a number of bytes, so that a type that knows nothing of this file can read it.
    pub(super) fn with_plain_sizes(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::Leaf(Kind::Size), Value::String(text)) => {
                let bytes = size::parse(text).and_then(|bytes| i64::try_from(bytes).ok());
                bytes.map_or_else(|| value.clone(), Value::Integer)
            }
            (Self::Section(children) | Self::Records(children), Value::Table(table)) => {
                let plain = |(name, value): (&String, &Value)| {
                    let plain = children
                        .get(name)
                        .map_or_else(|| value.clone(), |shape| shape.with_plain_sizes(value));
                    (name.clone(), plain)
                };
                Value::Table(table.iter().map(plain).collect())
            }
            (Self::Records(_), Value::Array(items)) => {
                items.iter().map(|item| self.with_plain_sizes(item)).collect::<Vec<_>>().into()
            }
            _ => value.clone(),
        }
    }

    /// Makes a value of what an environment variable or a flag says.
    pub(super) fn read_text(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Leaf(kind) => kind.read_text(text),
            Self::List(kind) if !text.trim_start().starts_with('[') => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| kind.read_text(item)).collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Section(_) => Err("this is a section; name one of its keys".to_owned()),
            Self::Map | Self::Records(_) | Self::List(_) => {
                toml::from_str::<Table>(&format!("value = {text}"))
                    .ok()
                    .and_then(|mut table| table.remove("value"))
                    .ok_or_else(|| "expected a TOML value, such as [{name = \"a\"}]".to_owned())
            }
        }
    }
}

impl Kind {
    fn of(default: &Value) -> Self {
        match default {
            Value::Boolean(_) => Self::Boolean,
            Value::Integer(_) => Self::Integer,
            Value::Float(_) => Self::Number,
            // A bare number in quotes is a text; a unit makes it a duration or a size.
            Value::String(text) if text.parse::<f64>().is_ok() => Self::Text,
            Value::String(text) if duration::parse(text).is_some() => Self::Duration,
            Value::String(text) if size::parse(text).is_some() => Self::Size,
            _ => Self::Text,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Duration => duration::EXPECTED,
            Self::Size => size::EXPECTED,
            Self::Text => "a text",
        }
    }

    /// The value as this kind, or what was found and what is expected. `key` decides whether the value may be shown.
    pub(super) fn check(self, key: &str, value: &Value) -> Result<Value, String> {
        match (self, value) {
            (Self::Boolean, Value::Boolean(_))
            | (Self::Integer, Value::Integer(_))
            | (Self::Number, Value::Float(_))
            | (Self::Text, Value::String(_)) => Ok(value.clone()),
            (Self::Number, Value::Integer(whole)) => Ok(Value::Float(*whole as f64)),
            (Self::Duration | Self::Size, Value::Integer(whole)) if *whole >= 0 => Ok(value.clone()),
            (Self::Duration, Value::Float(seconds)) if *seconds >= 0.0 => Ok(value.clone()),
            (Self::Duration, Value::String(text)) if duration::parse(text).is_some() => Ok(value.clone()),
            (Self::Size, Value::String(text)) if size::parse(text).is_some() => Ok(value.clone()),
            _ => Err(format!("found {}, expected {}", found(key, value), self.expected())),
        }
    }

    fn read_text(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Boolean => text.parse().map(Value::Boolean).ok(),
            Self::Integer => text.replace('_', "").parse().map(Value::Integer).ok(),
            Self::Number => text.parse().map(Value::Float).ok(),
            Self::Duration => duration::parse(text).map(|_| Value::String(text.to_owned())),
            Self::Size => size::parse(text).map(|_| Value::String(text.to_owned())),
            Self::Text => Some(Value::String(text.to_owned())),
        };
        value.ok_or_else(|| format!("found {text:?}, expected {}", self.expected()))
    }
}

/// A value and its type, as far as it may be shown.
fn found(key: &str, value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        _ if secret::is_secret_key(key) => format!("a value of type {}", value.type_str()),
        Value::String(text) => format!("text {:?}", secret::mask_url(text)),
        _ => format!("{} {value}", value.type_str()),
    }
}

/// Two keys with a dot between them, where there are two.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The known key most like an unknown one: a slip of the pen, or the right name in the wrong section.
pub(super) fn nearest(unknown: &str, known: &[String]) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let distance = |key: &String| {
        let whole = strsim::damerau_levenshtein(unknown, key);
        let name = strsim::damerau_levenshtein(&last(unknown), &last(key)) + 1;
        (whole.min(name), whole)
    };
    let best = known.iter().min_by_key(|key| distance(key))?;
    let limit = (last(unknown).len() / 3).max(2);
    (distance(best).0 <= limit).then(|| best.clone())
}
