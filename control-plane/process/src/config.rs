//! The configuration: the built-in `configs/default.toml`, the file of `--config`, `SPRINGTIDE__SECTION__KEY` variables
//! and flags, each over the one before.
//!
//! `default.toml` is also the list of known keys and of what their values look like, so a slip of the pen is refused by
//! name wherever it is made. A section is read with [`Layers::section`] into the type of the crate that uses it; the
//! sections that several binaries share are in [`sections`].

pub mod duration;
mod error;
mod schema;
pub mod secret;
pub mod sections;
mod show;
pub mod size;
mod sources;
#[cfg(test)]
mod tests;

pub use error::{Error, Problem};
pub use secret::{Secret, SecretUrl};
pub use sources::{Origin, Override, Sources};

use schema::Shape;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::{Table, Value};

/// What holds where nothing else is said.
pub const DEFAULTS: &str = include_str!("../../../configs/default.toml");

const VARIABLE_PREFIX: &str = "SPRINGTIDE__";

/// The merged configuration; it knows where each value comes from.
#[derive(Clone, Debug)]
pub struct Layers {
    shape: Shape,
    values: Table,
    /// By dotted key. A list has one origin, whoever wrote its elements.
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Merges the sources over the defaults, or reports everything that is wrong with them.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut layers = Self::defaults();
        let mut problems = Vec::new();
        if let Some(path) = &sources.file {
            let text =
                std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let table: Table = toml::from_str(&text)
                .map_err(|e| Error::Syntax { path: path.clone(), message: e.to_string() })?;
            layers.merge(&table, &Origin::File(path.clone()), &mut problems);
        }
        for (name, text) in &sources.environment {
            if let Some(key) = name.strip_prefix(VARIABLE_PREFIX) {
                let key = key.to_lowercase().replace("__", ".");
                layers.set(&key, &text.as_str().into(), &Origin::Variable(name.clone()), &mut problems);
            }
        }
        for Override { flag, key, value } in &sources.overrides {
            layers.set(key, value, &Origin::Flag(flag.clone()), &mut problems);
        }
        if problems.is_empty() { Ok(layers) } else { Err(Error::Invalid(problems)) }
    }

    /// The defaults alone, for tests and simulations.
    pub fn defaults() -> Self {
        let values: Table = toml::from_str(DEFAULTS).expect("default.toml is valid: a test reads it");
        let shape = Shape::section(&values);
        let mut layers = Self { shape, values: Table::new(), origins: BTreeMap::new() };
        let mut problems = Vec::new();
        layers.merge(&values, &Origin::Default, &mut problems);
        debug_assert!(problems.is_empty(), "the defaults fit the shape that was read off them: {problems:?}");
        layers
    }

    /// The section (or the one key) under a dotted name, read into the caller's type.
    ///
    /// Every field of that type stands in `default.toml`, so none needs a default of its own. Sizes come as numbers of
    /// bytes, however they were written.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let path: Vec<&str> = name.split('.').collect();
        let Some(value) = lookup(&self.values, &path) else {
            return Err(Error::Invalid(vec![self.unknown(name, &Origin::Default)]));
        };
        let value = self.shape.at(&path).map_or_else(|| value.clone(), |shape| shape.with_plain_sizes(value));
        serde_path_to_error::deserialize(value).map_err(|e| {
            let inner = e.path().to_string();
            let key = if inner == "." { name.to_owned() } else { schema::join(name, &inner) };
            let origin = self.origin_of(&key);
            let message = e.into_inner().to_string().trim_end().to_owned();
            let message = if secret::is_secret_key(&key) { "invalid value".to_owned() } else { message };
            Error::Invalid(vec![Problem::WrongValue { key, origin, message }])
        })
    }

    /// The directory of all that is kept on this machine.
    pub fn data_dir(&self) -> PathBuf {
        self.values.get("data_dir").and_then(Value::as_str).unwrap_or_default().into()
    }

    /// The effective configuration as TOML, each value with its origin, secrets masked.
    pub fn show(&self) -> String {
        show::render(&self.values, &self.origins)
    }

    /// Where a key's value comes from; for a key inside a list, where the list does.
    pub fn origin_of(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin.clone();
            }
            let Some(end) = key.rfind(['.', '[']) else { return Origin::Default };
            key = &key[..end];
        }
    }

    fn merge(&mut self, table: &Table, origin: &Origin, problems: &mut Vec<Problem>) {
        let shape = self.shape.clone();
        self.merge_under("", &shape, &Value::Table(table.clone()), origin, problems);
    }

    fn merge_under(
        &mut self,
        key: &str,
        shape: &Shape,
        value: &Value,
        origin: &Origin,
        problems: &mut Vec<Problem>,
    ) {
        if let (Shape::Section(children), Value::Table(table)) = (shape, value) {
            for (name, value) in table {
                let key = schema::join(key, name);
                match children.get(name) {
                    Some(child) => self.merge_under(&key, child, value, origin, problems),
                    None => problems.push(self.unknown(&key, origin)),
                }
            }
            return;
        }
        match self.checked(key, shape, value, origin) {
            Ok(value) => self.put(key, value, origin),
            Err(found) => problems.extend(found),
        }
    }

    /// Sets one key from a variable or a flag; a text is read as the key's type.
    fn set(&mut self, key: &str, value: &Value, origin: &Origin, problems: &mut Vec<Problem>) {
        let path: Vec<&str> = key.split('.').collect();
        let Some(shape) = self.shape.at(&path).cloned() else {
            problems.push(self.unknown(key, origin));
            return;
        };
        let value = match value {
            Value::String(text) => shape.read_text(text),
            other => Ok(other.clone()),
        };
        match value {
            Ok(value) => self.merge_under(key, &shape, &value, origin, problems),
            Err(message) => problems.push(wrong(key, origin, message)),
        }
    }

    fn checked(
        &self,
        key: &str,
        shape: &Shape,
        value: &Value,
        origin: &Origin,
    ) -> Result<Value, Vec<Problem>> {
        let one = |result: Result<Value, String>| result.map_err(|message| vec![wrong(key, origin, message)]);
        match (shape, value) {
            (Shape::Leaf(kind), _) => one(kind.check(key, value)),
            (Shape::List(kind), Value::Array(items)) => one(items
                .iter()
                .map(|item| kind.check(key, item))
                .collect::<Result<_, _>>()
                .map(Value::Array)),
            (Shape::Map, Value::Table(table)) if table.values().all(|v| !v.is_table() && !v.is_array()) => {
                Ok(value.clone())
            }
            (Shape::Section(fields), Value::Table(_)) => self.record(key, fields, value, origin),
            (Shape::Records(fields), Value::Array(items)) => {
                let mut problems = Vec::new();
                let mut records = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    match self.record(&format!("{key}[{at}]"), fields, item, origin) {
                        Ok(record) => records.push(record),
                        Err(found) => problems.extend(found),
                    }
                }
                if problems.is_empty() { Ok(Value::Array(records)) } else { Err(problems) }
            }
            _ => {
                let expected = match shape {
                    Shape::Section(_) | Shape::Map => "a table",
                    Shape::Records(_) => "an array of tables",
                    _ => "an array",
                };
                one(Err(format!("found {}, expected {expected}", value.type_str())))
            }
        }
    }

    /// One element of a list of records, or a table inside of one: known keys only, each of its kind.
    fn record(
        &self,
        key: &str,
        fields: &BTreeMap<String, Shape>,
        item: &Value,
        origin: &Origin,
    ) -> Result<Value, Vec<Problem>> {
        let Some(table) = item.as_table() else {
            let message = format!("found {}, expected a table", item.type_str());
            return Err(vec![wrong(key, origin, message)]);
        };
        let mut record = Table::new();
        let mut problems = Vec::new();
        for (name, value) in table {
            let key = schema::join(key, name);
            match fields.get(name).map(|shape| self.checked(&key, shape, value, origin)) {
                Some(Ok(value)) => drop(record.insert(name.clone(), value)),
                Some(Err(found)) => problems.extend(found),
                None => problems.push(self.unknown(&key, origin)),
            }
        }
        if problems.is_empty() { Ok(Value::Table(record)) } else { Err(problems) }
    }

    fn put(&mut self, key: &str, value: Value, origin: &Origin) {
        let (parents, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.values;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            let entry = table.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().expect("the shape has tables above every key");
        }
        table.insert(name.to_owned(), value);
        self.origins.insert(key.to_owned(), origin.clone());
    }

    fn unknown(&self, key: &str, origin: &Origin) -> Problem {
        // `lanes[0].nmae` is compared with `lanes.name`.
        let plain: String =
            key.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".");
        let nearest = schema::nearest(&plain, &self.shape.keys());
        Problem::UnknownKey { key: key.to_owned(), origin: origin.clone(), nearest }
    }
}

fn wrong(key: &str, origin: &Origin, message: String) -> Problem {
    Problem::WrongValue { key: key.to_owned(), origin: origin.clone(), message }
}

fn lookup<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}
