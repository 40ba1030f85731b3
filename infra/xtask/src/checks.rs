//! Checks of what is not Rust in infra/.

use crate::venv::Venv;
use crate::workspace;
use anyhow::Result;

const REQUIREMENTS: &str = "infra/checks/requirements.txt";

/// Python with checkov and moto.
pub fn venv() -> Result<Venv> {
    Venv::with(workspace::target_dir().join("checks"), REQUIREMENTS, "0.4 GB")
}
