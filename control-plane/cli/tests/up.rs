//! `springtide up` as a real process: a job's whole way, the end, and what keeps it from starting.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Nothing here takes longer than this; a test that does is stuck.
const LIMIT: Duration = Duration::from_secs(60);

fn springtide(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide"));
    command.current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["SPRINGTIDE_SERVER", "SPRINGTIDE_TOKEN"] {
        command.env_remove(name);
    }
    // Other tests use the CPU at the same time.
    command.env("SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD", "1");
    command
}

/// A running `up`, with its data in `dir`.
struct Up {
    child: Child,
    url: String,
}

impl Up {
    async fn start(dir: &Path) -> Self {
        let mut command = springtide(dir);
        command.args(["up", "--json", "--listen", "127.0.0.1:0", "--data-dir", "data"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        while let Some(line) = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap() {
            text.push_str(&line);
            if let Ok(said) = serde_json::from_str::<Value>(&text) {
                return Self { child, url: said["url"].as_str().unwrap().to_owned() };
            }
        }
        panic!("it ended after {text:?}");
    }

    /// Ctrl-C; returns the exit code and what was said on stderr.
    async fn stop(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
        let mut said = String::new();
        let read = async { self.child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap() };
        timeout(LIMIT, read).await.unwrap();
        (timeout(LIMIT, self.child.wait()).await.unwrap().unwrap().code(), said)
    }

    async fn client(&self, dir: &Path, args: &[&str]) -> (i32, String, String) {
        run(springtide(dir).args(args).env("SPRINGTIDE_SERVER", &self.url)).await
    }
}

async fn run(command: &mut Command) -> (i32, String, String) {
    let output: Output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_job_goes_all_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path()).await;
    let input = r#"{"output": {"said": "hello"}}"#;
    let (code, out, err) = up.client(dir.path(), &["submit", "echo", "--input", input, "--out", "o"]).await;
    assert_eq!(code, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("job_") && lines[0].ends_with(" succeeded"), "{out}");
    let saved: Value = serde_json::from_slice(&std::fs::read(dir.path().join(lines[1])).unwrap()).unwrap();
    assert!(saved.to_string().contains("hello"), "{saved}");

    let (code, _, err) =
        up.client(dir.path(), &["submit", "echo", "--input", r#"{"fail": "invalid"}"#]).await;
    assert!(code == 1 && err.contains("failed (invalid)"), "{err}");
    let (code, _, err) = up.client(dir.path(), &["submit", "echo", "--input", r#"{"slep_s": 1}"#]).await;
    assert!(code == 2 && err.contains("slep_s"), "{err}");

    let (code, out, _) = up.client(dir.path(), &["jobs"]).await;
    assert_eq!((code, out.lines().count()), (0, 3), "{out}");
    let (code, out, _) = up.client(dir.path(), &["nodes"]).await;
    assert!(code == 0 && out.contains("active"), "{out}");
    assert_eq!(up.stop().await.0, Some(0));
}

#[tokio::test]
async fn ctrl_c_lets_what_runs_finish_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path()).await;
    let args = ["submit", "echo", "--no-wait", "--input", r#"{"sleep_s": 2}"#];
    let (_, running, _) = up.client(dir.path(), &args).await;
    loop {
        let (_, out, _) = up.client(dir.path(), &["jobs", "--status", "running", "--json"]).await;
        if out.contains(running.trim()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (code, said) = up.stop().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("waiting for: node") && said.ends_with("stopped\n"), "{said}");

    let again = Up::start(dir.path()).await;
    let (_, out, _) = again.client(dir.path(), &["jobs", "--json"]).await;
    let jobs: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(jobs["items"][0]["status"], "succeeded", "{out}");
    assert_eq!(again.stop().await.0, Some(0));
}

#[tokio::test]
async fn a_token_made_beforehand_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let make = ["tokens", "--data-dir", "data", "create", "me", "--scope", "read"];
    let (code, token, _) = run(springtide(dir.path()).args(make)).await;
    assert!(code == 0 && token.starts_with("st_"), "{token}");
    let (code, _, err) = run(springtide(dir.path()).args(make)).await;
    assert!(code == 2 && err.contains("me"), "{err}");

    let up = Up::start(dir.path()).await;
    let (code, _, err) = up.client(dir.path(), &["jobs"]).await;
    assert!(code == 2 && err.contains("SPRINGTIDE_TOKEN"), "{err}");
    let mut with_token = springtide(dir.path());
    with_token.env("SPRINGTIDE_SERVER", &up.url).env("SPRINGTIDE_TOKEN", token.trim());
    assert_eq!(run(with_token.arg("jobs")).await.0, 0);
    let (code, _, err) =
        run(with_token.args(["--server", &up.url]).env("SPRINGTIDE_TOKEN", "st_wrong")).await;
    assert!(code == 2 && err.contains("not known"), "{err}");
    let (code, out, _) = run(springtide(dir.path()).args(["tokens", "list", "--data-dir", "data"])).await;
    assert!(code == 0 && out.contains("me") && !out.contains(token.trim()), "{out}");
    up.stop().await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path()).await;
    let taken = up.url.strip_prefix("http://").unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--data-dir", "data", "--listen", "127.0.0.1:0"], 2, "another `springtide up`"),
        (&["--data-dir", "other", "--listen", taken], 1, "Choose another address with `--listen`"),
        (&["--data-dir", "file/data"], 1, "--data-dir"),
        (&["--data-dir", "other", "--listen", "0.0.0.0:0"], 1, "springtide tokens create"),
        (&["--data-dir", "other", "--set", "node.idd=x"], 2, "did you mean \"node.id\"?"),
        (&["--data-dir", "other", "--models", "nowhere"], 2, "has no model.toml"),
        (&["--data-dir", "other", "--no-node", "--slots", "3"], 2, "cannot be used with"),
    ];
    for (args, expected, words) in cases {
        let (code, _, err) = run(springtide(dir.path()).arg("up").args(args)).await;
        assert_eq!(code, expected, "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
    assert_eq!(up.stop().await.0, Some(0));
}
