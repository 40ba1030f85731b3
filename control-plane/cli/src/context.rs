//! What commands are given besides their arguments.

use std::sync::Arc;

use anyhow::Context as _;
use rand::TryRng;
use rand::rngs::SysRng;
use springtide_client::{Client, Options, Url};
use springtide_core::Timestamp;
use springtide_process::clock::{SharedClock, SystemClock};

use crate::args::Global;

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    /// Options of all commands.
    pub global: Global,
    /// The time of day.
    pub clock: SharedClock,
}

impl Context {
    /// This process's surroundings.
    pub fn of_process(global: Global) -> Self {
        Self { global, clock: Arc::new(SystemClock) }
    }

    /// A client of the chosen server.
    pub fn client(&self) -> anyhow::Result<Client> {
        client_of(self.global.server.clone())
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// Whether one JSON document is wanted.
    pub fn json(&self) -> bool {
        self.global.json
    }
}

/// A client of this server.
pub fn client_of(server: Url) -> anyhow::Result<Client> {
    let mut options = Options::new(server, random_seed()?);
    // Not an option of the command line: those can be read by every user of the machine.
    options.token = std::env::var("SPRINGTIDE_TOKEN").ok().filter(|token| !token.is_empty());
    Ok(Client::new(options)?)
}

/// A seed from the machine.
pub fn random_seed() -> anyhow::Result<u64> {
    SysRng.try_next_u64().context("the system gives no random numbers")
}
