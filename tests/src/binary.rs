//! Springtide's own binaries.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The path of a binary of this workspace, in the profile that the caller was built in.
pub fn path(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("the path of this program is not known")?;
    // target/PROFILE/deps/TEST-HASH or target/PROFILE/BENCH
    let beside = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    let path = beside.unwrap_or_else(|| this.with_file_name(name));
    ensure!(path.is_file(), "{} is not built: run `cargo build --workspace --bins`", path.display());
    Ok(path)
}
