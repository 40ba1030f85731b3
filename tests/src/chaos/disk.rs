//! A small disk in memory that can be filled.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A tmpfs, gone when it is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts it; an error where this user may not.
    pub fn mount(path: &Path, megabytes: u32) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "springtide-chaos"])
            .arg(path)
            .output()?;
        if !mounted.status.success() {
            bail!("no disk can be mounted: {}", String::from_utf8_lossy(&mounted.stderr).trim());
        }
        Ok(Self { path: path.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Takes all of its room.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.filler()).context("the disk can't be filled")?;
        let piece = vec![0; 1 << 20];
        while file.write_all(&piece).is_ok() {}
        Ok(())
    }

    /// Gives it back.
    pub fn free(&self) {
        // It may not be there when the disk was full already.
        let _ = std::fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Unmounts it now, or as soon as nobody uses it.
pub fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(path).output();
}
