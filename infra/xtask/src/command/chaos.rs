//! `cargo xtask chaos --minutes N`: builds everything, starts private servers and runs the program `chaos` of the crate
//! `springtide-tests` beside them; `cargo xtask chaos -- --help` lists what it takes.

use super::setup;
use crate::services::{Service, Services};
use crate::{process, workspace};
use anyhow::{Result, bail};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build without optimisation: quicker to start, slower to run
    #[arg(long)]
    debug: bool,
    /// Passed on, for example --minutes 2 --seed 7
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// What the cluster needs.
const SERVERS: [Service; 3] = [Service::Rabbitmq, Service::Postgres, Service::Redis];
/// What lists the options: nothing has to run for it.
const HELP: [&str; 2] = ["--help", "-h"];

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Extent::Runtime)?;
    let profile: &[&str] = if args.debug { &[] } else { &["--release"] };
    // Every program that is started; the torch worker is no default member.
    process::run(workspace::cargo().arg("build").args(profile).args(["-p", "springtide-torch-worker"]))?;
    process::run(workspace::cargo().arg("build").args(profile).arg("--bins"))?;
    let profile = if args.debug { "debug" } else { "release" };
    // Started from where it was built: `cargo run -p` would choose other features, and build everything again.
    let mut command = workspace::command(workspace::target_dir().join(profile).join("chaos"));
    command.args(&args.arguments);
    if args.arguments.iter().any(|argument| HELP.contains(&argument.as_str())) {
        return process::run(&mut command);
    }
    let services = Services::start(&SERVERS)?;
    if let Some((service, reason)) = services.missing.first() {
        bail!("no {}: {reason}", service.name());
    }
    process::run(command.envs(services.variables().map(|(name, value)| (name, value))))
}
