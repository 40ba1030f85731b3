//! `cargo xtask setup [--dev]`: makes `.venv` with the pinned torch and links its libtorch as `.libtorch`, where
//! `.cargo/config.toml` points torch-sys.
//!
//! The wheel on the package index is built for CUDA and drags gigabytes of GPU libraries along. On a machine without a
//! GPU libtorch needs two small ones of them to load, so only those are fetched, unless Python has to import torch too.

use crate::{process, venv, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const REQUIREMENTS: &str = "infra/models/requirements.txt";
const REQUIREMENTS_DEV: &str = "infra/models/requirements-export.txt";
/// What was installed last; written when all of it was.
const STAMP: &str = ".springtide-setup";
/// A package index that has CPU builds of torch (`2.11.0+cpu`).
const INDEX_VARIABLE: &str = "SPRINGTIDE_TORCH_INDEX";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also what exporting, training and the tests need: Python that imports torch and diffusers
    #[arg(long)]
    dev: bool,
}

/// How much is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// libtorch, to build and run the torch worker.
    Runtime,
    /// Python with torch and diffusers as well.
    Development,
}

pub fn run(args: &Args) -> Result<()> {
    ensure(if args.dev { Extent::Development } else { Extent::Runtime })
}

/// Sees to it that libtorch (and Python) are there. Quick when they are.
pub fn ensure(extent: Extent) -> Result<()> {
    let venv = workspace::path(".venv");
    let stamp = venv.join(STAMP);
    let installed = fs::read_to_string(&stamp).unwrap_or_default();
    let enough =
        [extent, Extent::Development].into_iter().any(|e| wanted(e).is_ok_and(|text| text == installed));
    if !enough {
        venv::make(&venv)?;
        fetch(&venv, extent)?;
    }
    link(&venv)?;
    if !enough {
        fs::write(&stamp, wanted(extent)?)?;
    }
    Ok(())
}

/// What the stamp says when all is installed: changing a requirement makes the next setup fetch it.
fn wanted(extent: Extent) -> Result<String> {
    let read =
        |file| fs::read_to_string(workspace::path(file)).with_context(|| format!("cannot read {file}"));
    Ok(match extent {
        Extent::Runtime => format!("runtime\n{}", read(REQUIREMENTS)?),
        Extent::Development => format!("development\n{}{}", read(REQUIREMENTS)?, read(REQUIREMENTS_DEV)?),
    })
}

fn fetch(venv: &Path, extent: Extent) -> Result<()> {
    let torch = torch_requirement(&fs::read_to_string(workspace::path(REQUIREMENTS))?)?;
    let has_gpu = Path::new("/proc/driver/nvidia/version").exists();
    let cpu_build = !has_gpu && install_cpu_build(venv, &torch)?;
    match extent {
        Extent::Runtime if cpu_build => {}
        Extent::Runtime if !has_gpu => {
            say(&format!("{torch} without its GPU libraries, since there is no GPU"), "0.55 GB", "1.3 GB");
            pip_install(venv, &["--no-deps", &torch])?;
            // Torch misses the rest of its packages: that is what is meant.
            pip_install(venv, &["--no-warn-conflicts", &loader_libraries(venv)?])?;
        }
        Extent::Runtime => {
            say(&format!("{torch} with its GPU libraries"), "2.2 GB", "5 GB");
            pip_install(venv, &["-r", REQUIREMENTS])?;
        }
        Extent::Development => {
            let (download, disk) = if cpu_build { ("0.2 GB", "0.8 GB") } else { ("2.2 GB", "5 GB") };
            say(&format!("{torch} and the Python packages of {REQUIREMENTS_DEV}"), download, disk);
            pip_install(venv, &["-r", REQUIREMENTS_DEV])?;
        }
    }
    Ok(())
}

fn say(what: &str, download: &str, disk: &str) {
    eprintln!(
        "fetching {what}: about {download} to download where nothing is cached, {disk} on disk in .venv"
    );
}

/// The line that pins torch.
fn torch_requirement(requirements: &str) -> Result<String> {
    let mut lines = requirements.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let torch = lines.find(|line| line.starts_with("torch=="));
    torch.map(str::to_owned).with_context(|| format!("{REQUIREMENTS} does not pin torch"))
}

/// Tries the CPU build, which the configured package indexes may or may not have. Returns whether it is there now.
fn install_cpu_build(venv: &Path, torch: &str) -> Result<bool> {
    let index = std::env::var(INDEX_VARIABLE).ok();
    if index.is_some() {
        eprintln!("looking for {torch}+cpu at the index of {INDEX_VARIABLE} (about 0.2 GB to download)");
    }
    let index: Vec<_> = index.iter().flat_map(|url| ["--extra-index-url", url]).collect();
    let requirement = format!("{torch}+cpu");
    let mut probe = venv::pip(venv);
    probe.args(["install", "--quiet", "--dry-run", "--no-deps"]).args(&index).arg(&requirement);
    if process::output(&mut probe).is_err() {
        return Ok(false);
    }
    eprintln!("fetching {requirement}: about 0.2 GB to download, 0.7 GB on disk in .venv");
    let mut install = venv::pip(venv);
    process::run(install.arg("install").args(&index).arg(&requirement))?;
    Ok(true)
}

/// What libtorch's CPU half needs to load although it never calls it: the CUDA runtime and its profiler, in the versions
/// that the wheel names.
fn loader_libraries(venv: &Path) -> Result<String> {
    let metadata = site_packages(venv)?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("torch-")))
        .context("pip installed no torch")?
        .join("METADATA");
    let metadata =
        fs::read_to_string(&metadata).with_context(|| format!("cannot read {}", metadata.display()))?;
    loader_requirement(&metadata).context("the torch wheel does not name the CUDA version it is built with")
}

/// `cuda-toolkit[cublas,cudart,…]==13.0.2; …` → `cuda-toolkit[cudart,cupti]==13.0.2`.
fn loader_requirement(metadata: &str) -> Option<String> {
    let line = metadata.lines().find_map(|line| line.strip_prefix("Requires-Dist: cuda-toolkit["))?;
    let version = line.split_once(']')?.1.split(';').next()?.trim();
    Some(format!("cuda-toolkit[cudart,cupti]{version}"))
}

fn pip_install(venv: &Path, args: &[&str]) -> Result<()> {
    process::run(venv::pip(venv).arg("install").args(args))
}

fn site_packages(venv: &Path) -> Result<Vec<PathBuf>> {
    let lib = venv.join("lib");
    let versions = fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
    let packages = versions.flatten().map(|version| version.path().join("site-packages"));
    Ok(packages
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect())
}

/// Points `.libtorch` at the torch in the venv, by a relative path so that the checkout can be moved.
fn link(venv: &Path) -> Result<()> {
    let torch = site_packages(venv)?
        .into_iter()
        .find(|path| path.ends_with("torch") && path.join("lib/libtorch_cpu.so").is_file())
        .context("there is no libtorch in .venv; remove .venv and run `cargo xtask setup` again")?;
    let target = torch.strip_prefix(workspace::root()).unwrap_or(&torch);
    let link = workspace::path(".libtorch");
    if fs::read_link(&link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(target, &link).with_context(|| format!("cannot link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_read_off_the_requirements() {
        let text = "# why\nnumpy==2.4.6\ntorch==2.11.0 # the pair of tch\n";
        assert_eq!(torch_requirement(text).unwrap(), "torch==2.11.0");
        assert!(torch_requirement("torchvision==1.0").is_err());
    }

    #[test]
    fn the_loader_libraries_are_of_the_wheels_own_version() {
        let metadata = "Requires-Dist: filelock\nRequires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; platform_system == \"Linux\"\n";
        assert_eq!(loader_requirement(metadata).unwrap(), "cuda-toolkit[cudart,cupti]==13.0.2");
        assert_eq!(loader_requirement("Requires-Dist: filelock\n"), None);
    }
}
