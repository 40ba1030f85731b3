//! `cargo xtask demo [--once]`: from a fresh clone to a picture. Needs no server, no root.

use super::setup;
use crate::process::{self, Background};
use crate::services::free_port;
use crate::workspace;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const MODEL: &str = "shapes";
const PROMPT: &str = "a red circle and a blue square on a yellow background";
const IMAGES: &str = "4";
/// Where the client commands look when they are told nothing else.
const USUAL_PORT: u16 = 7860;
const START_LIMIT: Duration = Duration::from_secs(60);
/// Where the pictures go; git ignores it.
const OUTPUTS: &str = "springtide-outputs";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make one picture and end, instead of staying up
    #[arg(long)]
    once: bool,
    /// What the pictures should show
    #[arg(long, default_value = PROMPT)]
    prompt: String,
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(setup::Extent::Runtime)?;
    eprintln!("building springtide and its torch worker (some minutes the first time)");
    process::run(workspace::cargo().args(["build", "-p", "springtide", "-p", "springtide-torch-worker"]))?;
    let house = House::start(port(args)?)?;
    house.push_model()?;
    let out = workspace::path(OUTPUTS).join(format!("demo-{}", workspace::timestamp()));
    let job = house.submit(&args.prompt, &out)?;
    let pictures = pictures(&out)?;
    let nodes: Vec<_> = house.nodes_of(&job.id)?.into_iter().collect();
    eprintln!("made on {}: started by the autoscaler for this job", nodes.join(", "));
    if !args.once {
        eprintln!("\nup at {}; pictures are in {}", house.address(), out.display());
        eprintln!(
            "try: SPRINGTIDE_SERVER={} {} submit {MODEL} --prompt '…'",
            house.address(),
            house.binary.display()
        );
        eprintln!("Ctrl-C ends it");
    }
    println!("{}\n{}", job.id, job.status);
    for picture in &pictures {
        println!("{}", picture.display());
    }
    if pictures.is_empty() {
        bail!("the job is {}, but made no picture", job.status);
    }
    if !args.once {
        wait_for_interrupt();
    }
    Ok(())
}

/// What `springtide submit --json` prints, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Job {
    id: String,
    status: String,
}

/// What `GET /v1/jobs/{id}/tasks` answers, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Tasks {
    items: Vec<Task>,
}

#[derive(Debug, Deserialize)]
struct Task {
    node: Option<String>,
}

/// A whole Springtide in one process, with its data in a temporary directory. It has no node until there is work.
struct House {
    _up: Background,
    binary: PathBuf,
    port: u16,
    dir: TempDir,
}

impl House {
    fn start(port: u16) -> Result<Self> {
        let binary = workspace::target_dir().join("debug/springtide");
        let dir = tempfile::Builder::new().prefix("springtide-demo-").tempdir()?;
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = Command::new(&binary);
        command
            .args(["up", "--autoscale", "--set", "autoscaler.listen=127.0.0.1:0"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(dir.path().join("data"));
        command.stdout(log.try_clone()?).stderr(log);
        let mut up = Background::start("springtide up", &mut command, Signal::SIGTERM)?;
        let started = up.wait_until(START_LIMIT, || is_ready(port));
        let house = Self { _up: up, binary, port, dir };
        started.with_context(|| house.log())?;
        Ok(house)
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("the log of springtide up ends with:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    fn client(&self) -> Command {
        let mut command = workspace::command(&self.binary);
        command.env("SPRINGTIDE_SERVER", self.address());
        command
    }

    fn push_model(&self) -> Result<()> {
        let model = workspace::path("configs/models").join(MODEL);
        // stdout is for the job's id and the paths alone.
        process::output(self.client().args(["models", "push"]).arg(model))
            .map(drop)
            .with_context(|| self.log())
    }

    /// The nodes that a job ran on. They may be gone by now.
    fn nodes_of(&self, job: &str) -> Result<BTreeSet<String>> {
        let reply = get(self.port, &format!("/v1/jobs/{job}/tasks")).context("the job's tasks")?;
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let tasks: Tasks = serde_json::from_str(body).with_context(|| format!("the answer is {reply:?}"))?;
        Ok(tasks.items.into_iter().filter_map(|task| task.node).collect())
    }

    /// Posts the job and waits for it; its progress goes to the terminal.
    fn submit(&self, prompt: &str, out: &Path) -> Result<Job> {
        eprintln!("submitting: {prompt}");
        let mut command = self.client();
        command
            .args(["submit", MODEL, "--prompt", prompt, "--images", IMAGES, "--seed", "1", "--json", "--out"])
            .arg(out);
        let output = command.stderr(Stdio::inherit()).output().context("cannot start springtide submit")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("the job did not succeed ({}): {said}\n{}", output.status, self.log());
        }
        serde_json::from_str(said.trim())
            .with_context(|| format!("springtide submit --json printed {said:?}"))
    }
}

/// A demo that stays up is best found where clients look; one that does not should be in nobody's way.
fn port(args: &Args) -> Result<u16> {
    let usual_is_free = TcpListener::bind(("127.0.0.1", USUAL_PORT)).is_ok();
    if !args.once && usual_is_free { Ok(USUAL_PORT) } else { free_port() }
}

/// Whether the control plane takes jobs.
fn is_ready(port: u16) -> bool {
    get(port, "/readyz").is_ok_and(|reply| reply.starts_with("HTTP/1.1 200"))
}

/// The whole answer of the control plane: head and body.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("no outputs in {}", dir.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
    files.sort();
    Ok(files)
}

fn wait_for_interrupt() {
    while !crate::interrupt::requested() {
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("stopping");
}
