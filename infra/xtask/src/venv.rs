//! Virtual environments of Python, for what the project uses of it.

use crate::services::Availability;
use crate::{install, process, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was installed last; written when all of it was.
const STAMP: &str = ".springtide-requirements";

/// Makes an empty environment, unless there is one.
pub fn make(venv: &Path) -> Result<()> {
    if venv.join("bin/pip").is_file() {
        return Ok(());
    }
    if workspace::find_on_path("python3").is_none() {
        bail!("there is no python3 on PATH; install Python 3.10 or newer");
    }
    let make = || process::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv));
    if let Err(error) = make() {
        // Debian keeps the module's other half in a package of its own.
        match install::packages(&["python3-venv"]) {
            Ok(Availability::Ready) => drop(make()?),
            Ok(Availability::Missing(reason)) => bail!("python3 cannot make a virtual environment: {reason}"),
            Err(_) => return Err(error),
        }
    }
    Ok(())
}

/// Its pip.
pub fn pip(venv: &Path) -> Command {
    let mut command = workspace::command(venv.join("bin/python"));
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

/// An environment that holds what a file of requirements asks for.
#[derive(Clone, Debug)]
pub struct Venv {
    path: PathBuf,
}

impl Venv {
    /// Sees to it that it is there. Quick when it is.
    pub fn with(path: PathBuf, requirements: &str, size: &str) -> Result<Self> {
        let wanted = fs::read_to_string(workspace::path(requirements))
            .with_context(|| format!("cannot read {requirements}"))?;
        let stamp = path.join(STAMP);
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(Self { path });
        }
        eprintln!("fetching the Python packages of {requirements} ({size}) into {}", path.display());
        make(&path)?;
        process::run(pip(&path).args(["install", "--quiet", "--no-compile", "-r", requirements]))?;
        fs::write(&stamp, wanted)?;
        Ok(Self { path })
    }

    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.path.join("bin").join(name)
    }
}
