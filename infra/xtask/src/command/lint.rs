//! `cargo xtask lint`: format, import rules, dependencies, infrastructure, clippy, documentation.

use crate::checks;
use crate::imports::{self, Metadata};
use crate::steps::{Outcome, Steps};
use crate::{process, workspace};
use anyhow::{Context, Result, bail};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what is not Rust in infra/
    #[arg(long)]
    infra: bool,
}

/// Does it.
pub fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    if args.infra {
        checks::add_to(&mut steps);
    } else {
        add_to(&mut steps);
    }
    steps.finish()
}

/// The steps, cheapest first, as part of a larger check.
pub fn add_to(steps: &mut Steps) {
    steps.run("format", || cargo(&["fmt", "--all", "--check"]));
    steps.run("imports", imports);
    steps.run("dependencies", dependencies);
    checks::add_to(steps);
    steps.run("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    steps.run("documentation", documentation);
}

fn cargo(args: &[&str]) -> Result<Outcome> {
    process::run(workspace::cargo().args(args))?;
    Ok(Outcome::Passed)
}

fn imports() -> Result<Outcome> {
    let text = process::output(workspace::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    let violations = imports::violations(&metadata);
    if !violations.is_empty() {
        bail!("{}", violations.join("\n"));
    }
    Ok(Outcome::Passed)
}

fn dependencies() -> Result<Outcome> {
    if process::output(workspace::cargo().args(["deny", "--version"])).is_err() {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed (cargo install --locked cargo-deny)".to_owned(),
        ));
    }
    cargo(&["deny", "check", "bans", "licenses", "sources"])
}

fn documentation() -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut command)?;
    Ok(Outcome::Passed)
}
