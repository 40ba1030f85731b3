//! Celery on the same broker: two worker processes, no-op tasks, acks late, no results.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::Process;

const APP: &str = r#"
import os, sys, time
from celery import Celery
app = Celery("noop", broker=os.environ["BROKER"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=int(os.environ["PREFETCH"]),
                worker_hijack_root_logger=False)

@app.task
def noop(payload):
    return None

def main(count):
    payload = "x" * 400
    start = time.time()
    with app.connection_for_write() as connection:
        channel = connection.channel()
        with app.amqp.Producer(connection) as producer:
            for _ in range(count):
                noop.apply_async((payload,), producer=producer)
        while True:
            depth = channel.queue_declare("celery", passive=True).message_count
            if depth == 0:
                break
            time.sleep(0.02)
    print("RATE", count / (time.time() - start), flush=True)

if __name__ == "__main__":
    main(int(sys.argv[1]))
"#;

fn environment(dir: &Path) -> Result<PathBuf> {
    let venv = dir.join("celery-venv");
    let python = venv.join("bin/python");
    if !venv.join("bin/celery").is_file() {
        eprintln!("installing celery into {} (about 10 MB)", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "celery"]))?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    ensure!(command.status()?.success(), "{command:?} failed");
    Ok(())
}

/// Tasks per second through Celery, from the first publication until its queue is empty. `cache` keeps its installation.
pub fn tasks_per_second(url: &str, tasks: usize, prefetch: u16, cache: &Path) -> Result<f64> {
    let python = environment(cache)?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("noop.py"), APP)?;
    // Celery's multiplier is per worker process.
    let configure = |command: &mut Command| {
        command.current_dir(dir.path()).env("BROKER", url).env("PREFETCH", prefetch.to_string());
    };
    let mut worker = Command::new(python.with_file_name("celery"));
    worker.args(["-A", "noop", "worker", "--concurrency", "2", "--loglevel", "INFO", "--without-gossip"]);
    worker.args(["--without-mingle", "--pool", "prefork"]);
    configure(&mut worker);
    let mut worker = Process::start("celery", &mut worker, dir.path())?;
    worker
        .wait_for_line("the worker", Duration::from_mins(1), |line| line.contains("ready.").then_some(()))?;
    let mut post = Command::new(&python);
    post.args(["noop.py", &tasks.to_string()]);
    configure(&mut post);
    let start = Instant::now();
    let output = post.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(rate) = text.lines().find_map(|line| line.strip_prefix("RATE ")) else {
        bail!("celery failed after {:?}: {}", start.elapsed(), String::from_utf8_lossy(&output.stderr));
    };
    rate.trim().parse().context("celery's rate")
}
