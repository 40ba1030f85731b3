//! `cargo xtask package`: what machines without Rust and Python start from, as the Terraform module fetches it: archives to
//! unpack into /opt/springtide. Built on this machine, they run where glibc is as new.

use super::setup;
use crate::{process, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const UNITS: &str = "infra/systemd";
/// Of each archive: its name, and the binaries in it.
const ARCHIVES: [(&str, &[&str]); 3] = [
    ("control-plane", &["springtide", "springtide-control-plane", "springtide-autoscaler"]),
    ("node-cpu", &["springtide-node-agent", "springtide-torch-worker"]),
    ("node-cuda", &["springtide-node-agent", "springtide-torch-worker"]),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the release is called
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    release: String,
    /// Pack what is built for development, to try this command
    #[arg(long)]
    debug: bool,
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Extent::Runtime)?;
    let mut build = workspace::cargo();
    build.args(["build", "--workspace", "--bins"]);
    if !args.debug {
        build.arg("--release");
    }
    process::run(&mut build)?;
    let made = workspace::target_dir().join(if args.debug { "debug" } else { "release" });
    let out = workspace::target_dir().join("package").join(&args.release);
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for (name, binaries) in ARCHIVES {
        let libraries = match name {
            "node-cpu" => Libraries::Cpu,
            "node-cuda" => Libraries::Cuda,
            _ => Libraries::None,
        };
        if libraries == Libraries::Cuda && !has_gpu_libraries(&site_packages()?.join("nvidia")) {
            let wanted = "cargo xtask setup --dev, or a machine with a GPU";
            eprintln!("no {name}: the torch that is here has no GPU libraries ({wanted})");
            continue;
        }
        let stage = tempfile::tempdir()?;
        let binaries: Vec<_> = binaries.iter().map(|name| made.join(name)).collect();
        fill(stage.path(), &args.release, &binaries, libraries)?;
        pack(stage.path(), &out.join(format!("{name}.tar.gz")))?;
    }
    println!("aws s3 cp --recursive {} s3://BUCKET/release/{}/", out.display(), args.release);
    Ok(())
}

/// What of libtorch an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Libraries {
    None,
    /// What the worker loads at least.
    Cpu,
    /// All of it, with NVIDIA's.
    Cuda,
}

/// Lays an archive out with links to what goes into it.
fn fill(stage: &Path, release: &str, binaries: &[PathBuf], libraries: Libraries) -> Result<()> {
    let link = |from: &Path, to: PathBuf| -> Result<()> {
        fs::create_dir_all(to.parent().context("a path of an archive")?)?;
        symlink(from, &to).with_context(|| format!("cannot link {}", to.display()))
    };
    fs::write(stage.join("release"), format!("{release}\n"))?;
    let units = fs::read_dir(workspace::path(UNITS))?.collect::<Result<Vec<_>, _>>()?;
    for unit in units {
        link(&unit.path(), stage.join("systemd").join(unit.file_name()))?;
    }
    for binary in binaries {
        // The workspace may not have it (yet).
        if binary.is_file() {
            link(binary, stage.join("bin").join(binary.file_name().unwrap_or_default()))?;
        } else {
            eprintln!("without {}: it is not built", binary.display());
        }
    }
    match libraries {
        Libraries::None => {}
        Libraries::Cpu => {
            let worker = binaries.iter().find(|path| path.ends_with("springtide-torch-worker"));
            let said = process::output(workspace::command("ldd").arg(worker.context("no worker")?))?;
            for library in crate::image::foreign_libraries(&said)? {
                link(&library, stage.join("libtorch/lib").join(library.file_name().unwrap_or_default()))?;
            }
        }
        Libraries::Cuda => {
            // libtorch_cuda.so looks for NVIDIA's libraries in ../../nvidia, as its wheel has them.
            let site = site_packages()?;
            link(&site.join("torch/lib"), stage.join("libtorch/lib"))?;
            link(&site.join("nvidia"), stage.join("nvidia"))?;
        }
    }
    Ok(())
}

/// Where the venv keeps its packages: beside the torch that `.libtorch` points to.
fn site_packages() -> Result<PathBuf> {
    let torch = fs::canonicalize(workspace::path(".libtorch")).context("there is no .libtorch")?;
    Ok(torch.parent().context("torch is in a directory")?.to_path_buf())
}

/// Whether NVIDIA's libraries are there: the two that libtorch's CPU half needs don't count.
fn has_gpu_libraries(nvidia: &Path) -> bool {
    let inside = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    inside(nvidia.to_owned()).flat_map(|part| inside(part.join("lib"))).any(|library| {
        library.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libcublas.so"))
    })
}

fn pack(stage: &Path, archive: &Path) -> Result<()> {
    eprintln!("packing {}", archive.display());
    let mut tar = workspace::command("tar");
    tar.args(["--create", "--gzip", "--dereference", "--owner=0", "--group=0"]);
    tar.args(["--exclude=*.a", "--exclude=*.h", "--exclude=__pycache__", "--exclude=*.py"]);
    process::run(tar.arg("--file").arg(archive).arg("--directory").arg(stage).arg("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_libraries_are_told_from_what_the_cpu_needs() {
        let nvidia = tempfile::tempdir().unwrap();
        let lib = nvidia.path().join("cu13/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libcudart.so.13"), "").unwrap();
        assert!(!has_gpu_libraries(nvidia.path()));
        fs::write(lib.join("libcublas.so.13"), "").unwrap();
        assert!(has_gpu_libraries(nvidia.path()));
    }

    #[test]
    fn an_archive_has_the_units_the_release_and_the_binaries() {
        let (stage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let binary = out.path().join("springtide");
        fs::write(&binary, "a program").unwrap();
        let missing = out.path().join("springtide-novelty");
        fill(stage.path(), "0.9.0", &[binary, missing], Libraries::None).unwrap();
        let archive = out.path().join("control-plane.tar.gz");
        pack(stage.path(), &archive).unwrap();
        let listed =
            process::output(workspace::command("tar").arg("--list").arg("--file").arg(&archive)).unwrap();
        for path in ["./release", "./bin/springtide", "./systemd/springtide-node-agent.service"] {
            assert!(listed.lines().any(|line| line == path), "{path} is not in:\n{listed}");
        }
        assert!(!listed.contains("novelty"));
        let read = workspace::command("tar")
            .args(["--extract", "--to-stdout", "--file"])
            .arg(&archive)
            .arg("./release")
            .output();
        assert_eq!(String::from_utf8_lossy(&read.unwrap().stdout), "0.9.0\n");
    }
}
