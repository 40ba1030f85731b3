//! Installs Debian packages, without starting the services that they bring.

use crate::services::Availability;
use crate::{process, workspace};
use anyhow::{Context, Result};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Asked by Debian's maintainer scripts before they start a service; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs packages; says why not where that cannot be done.
pub fn packages(names: &[&str]) -> Result<Availability> {
    let list = names.join(" ");
    if workspace::find_on_path("apt-get").is_none() {
        return Ok(Availability::Missing(format!("{list}: not installed, and there is no apt-get to do it")));
    }
    if !workspace::is_root() {
        return Ok(Availability::Missing(format!("{list}: not installed; as root, apt-get install {list}")));
    }
    eprintln!("installing {list} with apt-get");
    let _policy = NoServiceStarts::begin()?;
    if install(names).is_err() {
        process::run(apt_get().arg("update")).context("apt-get update")?;
        install(names)?;
    }
    Ok(Availability::Ready)
}

fn install(names: &[&str]) -> Result<()> {
    process::run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(names))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]);
    // What dpkg says on stdout is of no use here; what goes wrong is on stderr.
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    command
}

/// While it lives no service is started by a package, unless the machine has a policy of its own.
struct NoServiceStarts {
    ours: bool,
}

impl NoServiceStarts {
    fn begin() -> Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n").context(POLICY)?;
                Ok(Self { ours: true })
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).context(POLICY),
        }
    }
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(Path::new(POLICY));
        }
    }
}
