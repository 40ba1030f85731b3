//! `cargo xtask services [--only rabbitmq,postgres,…] -- PROGRAM…`: runs a program beside private servers.

use crate::process;
use crate::services::{Service, Services};
use anyhow::{Result, bail};
use std::process::Command;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start these only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Service>,
    /// What to run; without it the servers stay up until Ctrl-C
    #[arg(last = true)]
    program: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let wanted = if args.only.is_empty() { &Service::ALL[..] } else { &args.only };
    let services = Services::start(wanted)?;
    for (service, reason) in &services.missing {
        if !args.only.is_empty() {
            bail!("no {}: {reason}", service.name());
        }
        eprintln!("without {}: {reason}", service.name());
    }
    for (name, value) in services.variables() {
        eprintln!("{name}={value}");
    }
    let Some((program, arguments)) = args.program.split_first() else {
        eprintln!("up; Ctrl-C ends it");
        // Sleeps until the signal; its own end is then no error.
        return process::status(Command::new("sleep").arg("infinity")).map(drop).or_else(|_| Ok(()));
    };
    let variables = services.variables().map(|(name, value)| (name, value));
    // Where the caller stands, not at the root: it is the caller's program.
    process::run(Command::new(program).args(arguments).envs(variables))
}
