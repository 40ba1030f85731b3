//! `cargo xtask fuzz [TARGET] [--seconds N]`: coverage-guided fuzzing of what comes from outside, with cargo-fuzz. The
//! targets are in `tests/fuzz`; they start from the messages that the snapshot tests pin. What is found is kept under
//! `target/fuzz`: the corpus, and under `artifacts` the inputs that broke something.

use crate::{process, workspace};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger inputs teach nothing that smaller ones don't.
const MAX_INPUT_BYTES: u32 = 1 << 14;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to fuzz; all, one after the other, if it is left out
    target: Option<Target>,
    /// How long, for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Passed on to libFuzzer
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Bytes on a worker's pipe
    Frames,
    /// Bytes from the broker
    Messages,
}

impl Target {
    const ALL: [Self; 2] = [Self::Frames, Self::Messages];

    fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Messages => "messages",
        }
    }

    /// Where the messages that it starts from are pinned.
    fn snapshots(self) -> &'static str {
        match self {
            Self::Frames => "node-agent/protocol/tests/snapshots",
            Self::Messages => "control-plane/core/src/wire/snapshots",
        }
    }

    /// A pinned message as an input.
    fn seed(self, message: &str) -> Vec<u8> {
        match self {
            Self::Messages => message.as_bytes().to_vec(),
            Self::Frames => {
                // Cut into pieces of 16 bytes; a body of 8 bytes.
                let header = (message.len() as u32).to_le_bytes();
                [&[16], &header[..], &8_u64.to_le_bytes(), message.as_bytes(), &[7; 8]].concat()
            }
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let tools = ensure_cargo_fuzz()?;
    let dir = workspace::target_dir().join("fuzz");
    for target in args.target.map_or(Target::ALL.to_vec(), |target| vec![target]) {
        let corpus = dir.join("corpus").join(target.name());
        write_seeds(target, &corpus)?;
        let artifacts = dir.join("artifacts").join(target.name());
        fs::create_dir_all(&artifacts)?;
        eprintln!("fuzzing {} for {} s", target.name(), args.seconds);
        let mut command = workspace::cargo();
        if let Some(tools) = &tools {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let paths = std::iter::once(tools.clone()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(paths)?);
        }
        // Nothing of ours is unsafe, so no sanitizer is needed, and with it no nightly toolchain; what this finds are
        // panics, overflows, hangs and greed for memory.
        command.args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", target.name()]);
        command.arg(&corpus).args(["--", "-timeout=5", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.arg(format!("-max_total_time={}", args.seconds)).arg(format!("-max_len={MAX_INPUT_BYTES}"));
        command.arg(format!("-artifact_prefix={}/", artifacts.display())).args(&args.arguments);
        command.env("CARGO_TARGET_DIR", dir.join("build"));
        process::run(&mut command).with_context(|| {
            format!(
                "{} broke, or could not be built; what broke it is in {}",
                target.name(),
                artifacts.display()
            )
        })?;
    }
    Ok(())
}

/// Installs cargo-fuzz beside the build, if there is none. The directory of the program, if it is that one.
fn ensure_cargo_fuzz() -> Result<Option<PathBuf>> {
    if workspace::find_on_path("c++").is_none() {
        bail!("libFuzzer is C++, and there is no c++ compiler: as root, apt-get install g++");
    }
    if process::output(workspace::cargo().args(["fuzz", "--version"])).is_ok() {
        return Ok(None);
    }
    let root = workspace::target_dir().join("tools");
    let bin = root.join("bin");
    if !bin.join("cargo-fuzz").is_file() {
        eprintln!("cargo-fuzz is not installed; building it under {} (some minutes)", root.display());
        let mut install = workspace::cargo();
        install.args(["install", "--locked", "--quiet", "cargo-fuzz", "--root"]).arg(&root);
        process::run(&mut install).context(
            "no cargo-fuzz: it comes from crates.io; or install it with `cargo install cargo-fuzz`",
        )?;
    }
    Ok(Some(bin))
}

/// Writes the pinned messages where libFuzzer looks. What it has found before stays.
fn write_seeds(target: Target, corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus)?;
    let snapshots = workspace::path(target.snapshots());
    let entries =
        fs::read_dir(&snapshots).with_context(|| format!("no snapshots in {}", snapshots.display()))?;
    let mut seeds = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".snap")) else {
            continue;
        };
        let text = fs::read_to_string(&path)?;
        let body =
            text.splitn(3, "---\n").nth(2).with_context(|| format!("{} has no body", path.display()))?;
        // Without the line breaks that are for people, mutations reach more.
        let message: serde_json::Value =
            serde_json::from_str(body).with_context(|| format!("{} pins no JSON", path.display()))?;
        fs::write(corpus.join(format!("seed-{name}")), target.seed(&message.to_string()))?;
        seeds += 1;
    }
    if seeds == 0 {
        bail!("no snapshots in {}", snapshots.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_message_is_a_seed() {
        let dir = tempfile::tempdir().unwrap();
        for target in Target::ALL {
            let corpus = dir.path().join(target.name());
            write_seeds(target, &corpus).unwrap();
            assert!(fs::read_dir(&corpus).unwrap().count() >= 6, "{}", target.name());
        }
        let frame = Target::Frames.seed("{}");
        assert_eq!(frame, [16, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 7, 7, 7, 7, 7, 7, 7, 7]);
    }
}
