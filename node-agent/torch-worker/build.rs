//! Tells the linker, and through the run path the loader, where libtorch is: the one place that says so.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let lib = libtorch.join("lib");
    if !lib.join("libtorch_cpu.so").exists() {
        println!(
            "cargo:error=there is no libtorch in {}: run `cargo xtask setup`, or point LIBTORCH at an unpacked libtorch 2.11.0",
            libtorch.display()
        );
        std::process::exit(1);
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // As `cargo xtask package` lays it out.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../libtorch/lib");
    println!("cargo:rustc-env=SPRINGTIDE_LIBTORCH_VERSION={}", version(&libtorch));
}

/// As the Python package (`version.py`) or the archive of libtorch (`build-version`) says.
fn version(libtorch: &Path) -> String {
    let read = |file: &str| std::fs::read_to_string(libtorch.join(file)).unwrap_or_default();
    let python = read("version.py");
    let line = python.lines().find_map(|line| line.strip_prefix("__version__ = '"));
    let version = line.map_or_else(|| read("build-version"), |line| line.trim_end_matches('\'').to_owned());
    if version.trim().is_empty() { "unknown".into() } else { version.trim().into() }
}
