//! Prints the effective configuration, as `springtide config show` does.

use super::{Origin, schema, secret};
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// TOML with the origin of each value as a comment; what is secret is masked.
pub(super) fn render(values: &Table, origins: &BTreeMap<String, Origin>) -> String {
    let mut out = String::new();
    render_table("", values, origins, &mut out);
    out
}

fn render_table(prefix: &str, table: &Table, origins: &BTreeMap<String, Origin>, out: &mut String) {
    let is_section = |key: &str, value: &Value| value.is_table() && !origins.contains_key(key);
    let entries = || table.iter().map(|(name, value)| (schema::join(prefix, name), name, value));
    for (key, name, value) in entries().filter(|(key, _, value)| !is_section(key, value)) {
        let origin = origins.get(&key).unwrap_or(&Origin::Default);
        let line = format!("{name} = {}", masked(&key, value));
        writeln!(out, "{line:<48} # {origin}").expect("a String takes all that is written");
    }
    for (key, _, value) in entries().filter(|(key, _, value)| is_section(key, value)) {
        write!(out, "\n[{key}]\n").expect("a String takes all that is written");
        render_table(&key, value.as_table().expect("filtered to tables"), origins, out);
    }
}

fn masked(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if secret::is_secret_key(key) && !text.is_empty() => secret::MASK.into(),
        Value::String(text) => secret::mask_url(text).into(),
        Value::Table(table) => {
            table.iter().map(|(name, v)| (name.clone(), masked(name, v))).collect::<Table>().into()
        }
        Value::Array(items) => items.iter().map(|item| masked(key, item)).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}
