//! `cargo xtask test`: the whole check. Lints, then every test beside private servers, which are gone afterwards.

use super::{lint, setup};
use crate::services::{Service, Services};
use crate::steps::{Outcome, Steps};
use crate::{process, workspace};
use anyhow::{Result, bail};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the lints out
    #[arg(long)]
    no_lint: bool,
    /// Passed on to the test runner, for example a test's name
    #[arg(last = true)]
    filter: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    // Without libtorch nothing after it builds.
    if !steps.run("setup", || setup::ensure(setup::Extent::Development).map(|()| Outcome::Passed)) {
        return steps.finish();
    }
    if !args.no_lint {
        lint::add_to(&mut steps);
    }
    // Before the servers start: they would only take memory from the compiler.
    if steps.run("build", build) {
        let mut services = None;
        steps.run("servers", || start(&mut services));
        let services = services.unwrap_or_default();
        steps.run("tests", || tests(&services, &args.filter));
    }
    steps.finish()
}

fn build() -> Result<Outcome> {
    process::run(workspace::cargo().args(["build", "--workspace", "--all-targets", "--quiet"]))?;
    Ok(Outcome::Passed)
}

/// As root a server that is missing is a failure: the tests against it would be skipped unseen. Some may be missing where
/// the container does not allow what they need.
fn start(services: &mut Option<Services>) -> Result<Outcome> {
    let started = services.insert(Services::start(&Service::ALL)?);
    let list = |missing: &[&(Service, String)]| {
        missing
            .iter()
            .map(|(service, why)| format!("{}: {why}", service.name()))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let missing: Vec<_> = started.missing.iter().collect();
    if workspace::is_root() {
        let needed: Vec<_> =
            missing.iter().copied().filter(|(service, _)| !service.needs_privileges()).collect();
        if !needed.is_empty() {
            bail!("{}", list(&needed));
        }
    }
    Ok(if missing.is_empty() { Outcome::Passed } else { Outcome::Skipped(list(&missing)) })
}

fn tests(services: &Services, filter: &[String]) -> Result<Outcome> {
    let has_nextest = process::output(workspace::cargo().args(["nextest", "--version"])).is_ok();
    let mut command = workspace::cargo();
    if has_nextest {
        command.args(["nextest", "run", "--workspace"]).args(filter);
    } else {
        command.args(["test", "--workspace", "--quiet", "--"]).args(filter);
    }
    process::run(command.envs(services.variables().map(|(name, value)| (name, value))))?;
    if has_nextest {
        process::run(workspace::cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    Ok(Outcome::Passed)
}
