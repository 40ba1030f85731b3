//! Models to test with, made by the Python scripts once and kept under `target/`.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// What diffusers says, in the form that `infra/models/parity.py` documents. Nothing, with a word on standard error,
/// where the Python packages for exporting are not installed.
pub fn parity() -> Option<PathBuf> {
    let folder = root().join("infra/models");
    let sources = ["parity.py", "export.py", "model_dir.py"].map(|file| folder.join(file));
    made_by(&sources, "parity")
}

/// The model that ships.
pub fn shapes() -> Option<PathBuf> {
    let dir = root().join("configs/models/shapes");
    dir.join("model.toml").exists().then_some(dir)
}

/// TorchScript files of all kinds: see `tests/scripts.py`.
pub fn scripts() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts.py");
    made_by(&[source], "scripts").expect("Python with torch: run `cargo xtask setup`")
}

/// The output folder of `sources[0]`, run again when a source is newer.
fn made_by(sources: &[PathBuf], name: &str) -> Option<PathBuf> {
    let kept = root().join("target/torch-worker-tests");
    fs::create_dir_all(&kept).unwrap();
    let lock = File::create(kept.join(format!("{name}.lock"))).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    let out = kept.join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let made = changed(&out.join("index.json"));
    if made.is_some() && sources.iter().all(|source| changed(source) < made) {
        return Some(out);
    }
    let _ = fs::remove_dir_all(&out);
    let output = Command::new(root().join(".venv/bin/python")).arg(&sources[0]).arg(&out).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("ModuleNotFoundError") {
        eprintln!("skipped: {} needs infra/models/requirements-export.txt in .venv", sources[0].display());
        return None;
    }
    assert!(output.status.success(), "{} failed:\n{errors}", sources[0].display());
    Some(out)
}
