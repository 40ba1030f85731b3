//! What a worker does to its own process before anything else: it ties itself to its agent's life, and takes from itself
//! what it does not need. A model is somebody else's program; what it does wrong should end its worker and nothing else.
//!
//! The agent says how on the worker's command line ([`Confinement::arguments`]); the worker reads it there
//! ([`Confinement`] is a set of clap's arguments) and does it to itself ([`Confinement::apply`]), so that nothing has to
//! be done between fork and exec. Linux only. Knows no frame, no runtime, and no other crate of ours.

mod limits;
mod parent;
mod sockets;

use std::ffi::OsString;

use nix::unistd::Pid;

/// How a worker confines itself. The default leaves all as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub struct Confinement {
    /// Most files open at once; as its agent has it if absent.
    #[arg(long, value_name = "COUNT")]
    pub max_files: Option<u64>,
    /// Most bytes of address space; no limit if absent.
    #[arg(long, value_name = "BYTES")]
    pub max_memory_bytes: Option<u64>,
    /// Sockets that may be made.
    #[arg(long, value_enum, default_value_t)]
    pub sockets: Sockets,
}

/// Sockets that a worker may make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sockets {
    /// All.
    #[default]
    Any,
    /// Those of this machine (`AF_UNIX`), by which CUDA's driver speaks to its services.
    Local,
    /// None.
    None,
}

/// A worker could not confine itself, and so does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent's end would not be heard of.
    #[error("the worker can't be tied to its agent's life")]
    Parent(#[source] nix::Error),
    /// The system does not take a limit.
    #[error(
        "{what} can't be limited to {limit}; take it out of the configuration, or raise what the system allows"
    )]
    Limit {
        /// The key of the configuration.
        what: &'static str,
        /// What was asked for.
        limit: u64,
        /// The system's words.
        source: nix::Error,
    },
    /// This kernel or machine has no seccomp filters, or refuses one.
    #[error("node.worker_seccomp is on, and this system takes no filter of system calls; set it to false")]
    Sockets(#[source] seccompiler::Error),
}

impl Confinement {
    /// The arguments that say this on a command line.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.into(), value.into()]);
        if let Some(files) = self.max_files {
            add("--max-files", files.to_string());
        }
        if let Some(bytes) = self.max_memory_bytes {
            add("--max-memory-bytes", bytes.to_string());
        }
        match self.sockets {
            Sockets::Any => {}
            Sockets::Local => add("--sockets", "local".to_owned()),
            Sockets::None => add("--sockets", "none".to_owned()),
        }
        arguments
    }

    /// Does it, and gives the agent's process id. To be called first, while there is one thread.
    pub fn apply(&self) -> Result<Pid, Error> {
        limits::first_to_go();
        limits::apply(self)?;
        sockets::forbid(self.sockets).map_err(Error::Sockets)?;
        parent::die_with_parent().map_err(Error::Parent)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Worker {
        #[command(flatten)]
        confinement: Confinement,
    }

    #[test]
    fn what_the_agent_says_is_what_the_worker_reads() {
        let all = [
            Confinement::default(),
            Confinement { max_files: Some(64), max_memory_bytes: Some(1 << 40), sockets: Sockets::None },
            Confinement { sockets: Sockets::Local, ..Confinement::default() },
        ];
        for confinement in all {
            let arguments = std::iter::once("worker".into()).chain(confinement.arguments());
            assert_eq!(Worker::try_parse_from(arguments).unwrap().confinement, confinement);
        }
    }
}
