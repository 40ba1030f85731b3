//! Writes to stdout. A reader that has gone (`springtide jobs | head`) ends the process quietly.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// A line.
pub fn line(text: impl Display) {
    write(&format!("{text}\n"));
}

/// A JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    write(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Text that ends its own lines.
pub fn text(text: &str) {
    write(text);
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
