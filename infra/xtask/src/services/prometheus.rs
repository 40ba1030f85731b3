//! The programs of Prometheus and its Alertmanager. Tests start their own, on their own configuration.

use super::{Availability, Running};
use crate::{install, workspace};
use anyhow::{Context, Result};

/// The variable that names a program, and what Debian, or else the project itself, calls it.
const PROGRAMS: [(&str, [&str; 2]); 3] = [
    ("SPRINGTIDE_TEST_PROMETHEUS", ["prometheus", "prometheus"]),
    ("SPRINGTIDE_TEST_PROMTOOL", ["promtool", "promtool"]),
    ("SPRINGTIDE_TEST_ALERTMANAGER", ["prometheus-alertmanager", "alertmanager"]),
];

/// Sees to it that they are installed.
pub fn prepare() -> Result<Availability> {
    if variables().is_ok() {
        return Ok(Availability::Ready);
    }
    install::packages(&["prometheus", "prometheus-alertmanager"])
}

/// Says where they are; nothing runs.
pub fn start() -> Result<Running> {
    Ok(Running { variables: variables()?, keep: Box::new(()) })
}

fn variables() -> Result<Vec<(&'static str, String)>> {
    let path = |names: [&str; 2]| names.iter().find_map(|name| workspace::find_on_path(name));
    let variable = |(variable, names): (&'static str, [&str; 2])| {
        let path = path(names).with_context(|| format!("{} is not on PATH", names[0]))?;
        Ok((variable, path.display().to_string()))
    };
    PROGRAMS.into_iter().map(variable).collect()
}
