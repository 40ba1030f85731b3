//! Workers as real child processes: the echo worker, and programs that misbehave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use springtide_node_agent::worker::{
    Exit, Network, ProcessLauncher, Worker, WorkerCommand, WorkerEvent, WorkerLauncher, WorkerRule,
    WorkerSpec,
};
use springtide_worker_protocol::{Batch, FromWorker, Member, Output, ToWorker, WorkerKind};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(20);

fn spec(kind: WorkerKind) -> WorkerSpec {
    WorkerSpec { kind, device: "cpu".into() }
}

fn echo_command() -> WorkerCommand {
    WorkerCommand {
        program: env!("CARGO_BIN_EXE_springtide-node-agent").into(),
        args: vec!["echo-worker".into()],
    }
}

fn echo() -> Worker {
    echo_under(WorkerRule::default())
}

fn echo_under(rule: WorkerRule) -> Worker {
    let launcher = ProcessLauncher::with_commands(echo_command(), echo_command(), rule);
    launcher.launch(&spec(WorkerKind::Echo)).unwrap()
}

/// A worker that is a shell script.
fn script(text: &str) -> Worker {
    let sh = WorkerCommand { program: "/bin/sh".into(), args: vec!["-c".into(), text.into()] };
    let launcher = ProcessLauncher::with_commands(sh.clone(), sh, WorkerRule::default());
    launcher.launch(&spec(WorkerKind::Echo)).unwrap()
}

async fn next(worker: &mut Worker, what: &str) -> WorkerEvent {
    let next = timeout(LIMIT, worker.next()).await;
    next.unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}")).expect("an event")
}

async fn message(worker: &mut Worker, what: &str) -> FromWorker {
    match next(worker, what).await {
        WorkerEvent::Frame(frame) => frame.message,
        WorkerEvent::Exited(exit) => panic!("{} instead of {what}", exit.describe()),
    }
}

async fn exit(worker: &mut Worker) -> Exit {
    loop {
        if let WorkerEvent::Exited(exit) = next(worker, "the worker's end").await {
            return exit;
        }
    }
}

fn run(worker: &Worker, run: &str, input: Value) {
    let member = Member::new("t", run, input);
    assert!(worker.send(ToWorker::Run(Batch { batch: 1, model: "echo@1".into(), members: vec![member] })));
}

async fn ready(worker: &mut Worker) {
    let ready = message(worker, "ready").await;
    assert!(
        matches!(&ready, FromWorker::Ready(ready) if ready.kind == WorkerKind::Echo && ready.concurrency > 1)
    );
}

#[tokio::test]
async fn the_echo_worker_answers_many_runs_at_once_and_ends_with_its_input() {
    let mut worker = echo();
    ready(&mut worker).await;
    run(&worker, "slow", json!({"sleep_s": 0.3, "output": 1}));
    run(&worker, "quick", json!({"output": 2}));
    let mut order = Vec::new();
    for _ in 0..2 {
        let FromWorker::Done(done) = message(&mut worker, "an answer").await else { panic!("no answer") };
        order.push((done.run, done.outputs));
    }
    let tensors = |value: u32| vec![Output::Tensors { outputs: vec![json!(value)] }];
    assert_eq!(order, [("quick".into(), tensors(2)), ("slow".into(), tensors(1))]);
    assert!(worker.send(ToWorker::Shutdown));
    assert_eq!(exit(&mut worker).await.code, Some(0));
}

#[tokio::test]
async fn a_cancelled_run_ends_early() {
    let mut worker = echo();
    ready(&mut worker).await;
    let since = Instant::now();
    run(&worker, "r", json!({"sleep_s": 600}));
    assert!(worker.send(ToWorker::Cancel { run: "r".into(), checkpoint: false }));
    loop {
        match message(&mut worker, "the end of a cancelled run").await {
            FromWorker::Progress { .. } => {}
            FromWorker::Failed(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(since.elapsed() < LIMIT);
}

#[tokio::test]
async fn a_crash_is_told_with_signal_and_last_words() {
    let mut worker = echo();
    ready(&mut worker).await;
    run(&worker, "r", json!({"crash": "worker"}));
    let exit = exit(&mut worker).await;
    assert!(exit.status.contains("SIGABRT"), "{}", exit.describe());
    assert!(exit.stderr_tail.contains("crashing"), "{}", exit.describe());
}

#[tokio::test]
async fn garbage_on_standard_output_ends_the_worker() {
    let mut worker = script("echo 'Hello, this is no frame at all, but a library that prints'; sleep 600");
    let exit = exit(&mut worker).await;
    assert!(exit.status.contains("frame"), "{}", exit.describe());
}

#[tokio::test]
async fn what_a_worker_has_started_ends_with_it() {
    let mut worker =
        script("sleep 600 & echo $! >&2; echo 'A line that is long enough to be no frame'; wait");
    let exit = exit(&mut worker).await;
    let started: u32 = exit.stderr_tail.trim().parse().unwrap();
    gone(started).await;
}

#[tokio::test]
async fn half_a_frame_is_an_error_that_says_so() {
    let mut worker = script(r"printf '\020\000\000\000\000'; exit 3");
    let exit = exit(&mut worker).await;
    assert!(exit.code == Some(3) || exit.status.contains("inside a frame"), "{}", exit.describe());
}

#[tokio::test]
async fn a_flood_on_standard_error_is_swallowed_and_its_end_is_kept() {
    let flood = "i=0; while [ $i -lt 20000 ]; do echo line-$i >&2; i=$((i+1)); done; exit 7";
    let mut worker = script(flood);
    let exit = exit(&mut worker).await;
    assert_eq!(exit.code, Some(7));
    assert!(exit.stderr_tail.ends_with("line-19999"), "{}", exit.describe());
    assert!(exit.stderr_tail.lines().count() <= 20);
}

#[tokio::test]
async fn a_worker_that_closes_its_output_and_goes_on_is_killed() {
    let mut worker = script("exec >&-; sleep 600");
    let exit = exit(&mut worker).await;
    assert!(exit.status.contains("closed its output"), "{}", exit.describe());
}

#[tokio::test]
async fn a_killed_worker_is_gone() {
    let mut worker = script("sleep 600");
    let pid = worker.pid.expect("a process");
    worker.kill();
    let exit = exit(&mut worker).await;
    assert!(exit.status.contains("SIGKILL"), "{}", exit.describe());
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_worker_that_nobody_holds_any_more_ends() {
    let mut worker = echo();
    ready(&mut worker).await;
    let pid = worker.pid.expect("a process");
    drop(worker);
    gone(pid).await;
}

async fn gone(pid: u32) {
    let deadline = Instant::now() + LIMIT;
    while alive(pid) {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for process {pid} to end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_worker_ends_with_its_agent_though_its_pipes_stay_open() {
    // A parent between the test and the worker: the pipes are the test's. (A shell gives what it starts in the background
    // an empty input, if not told otherwise.)
    let mut parent = tokio::process::Command::new("sh")
        .args(["-c", "exec 3<&0; \"$0\" echo-worker <&3 & echo $! >&2; wait"])
        .arg(env!("CARGO_BIN_EXE_springtide-node-agent"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (_stdin, mut stdout) = (parent.stdin.take().unwrap(), parent.stdout.take().unwrap());
    let mut stderr = BufReader::new(parent.stderr.take().unwrap()).lines();
    let pid: u32 = stderr.next_line().await.unwrap().unwrap().parse().unwrap();
    let mut first = [0];
    stdout.read_exact(&mut first).await.expect("its first frame");
    assert!(alive(pid));
    parent.start_kill().unwrap();
    parent.wait().await.unwrap();
    let mut rest = Vec::new();
    timeout(LIMIT, stdout.read_to_end(&mut rest)).await.expect("its end closes the pipe").unwrap();
}

/// Whether the process is there and no zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_worker_works_under_the_limits_that_it_sets_itself() {
    let network = Network::Closed;
    let rule = WorkerRule { files: Some(64), memory_bytes: Some(1 << 29), network, ..WorkerRule::default() };
    let mut worker = echo_under(rule);
    ready(&mut worker).await;
    let pid = worker.pid.expect("a process");
    let facts = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let limits = facts("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).map(|word| word.parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(limit("Max open files"), [64, 64]);
    assert_eq!(limit("Max core file size"), [0, 0]);
    assert_eq!(limit("Max address space"), [1 << 29, 1 << 29]);
    assert!(facts("status").lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])), "a filter");
    assert_eq!(facts("oom_score_adj").trim(), "500", "it goes before the agent");
    run(&worker, "large", json!({"alloc_bytes": 1_u64 << 30}));
    let FromWorker::Failed(failed) = message(&mut worker, "a refusal").await else { panic!("not refused") };
    assert!(failed.message.contains("out of memory"), "{}", failed.message);
    run(&worker, "small", json!({"alloc_bytes": 1 << 20}));
    assert!(matches!(message(&mut worker, "an answer").await, FromWorker::Done(_)), "it lives on");
}

#[tokio::test]
async fn a_worker_that_the_kernel_ends_is_told_with_its_signal() {
    let mut worker = echo();
    ready(&mut worker).await;
    run(&worker, "r", json!({"sleep_s": 600}));
    // What the kernel sends when memory runs out.
    let pid = nix::unistd::Pid::from_raw(worker.pid.expect("a process").cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let exit = exit(&mut worker).await;
    assert_eq!(exit.status, "killed by signal 9 SIGKILL");
}

#[tokio::test]
async fn a_frame_that_is_no_message_ends_the_worker() {
    // A header of 4 bytes, no body.
    let mut worker = script(r"printf '\004\000\000\000\000\000\000\000\000\000\000\000null'; sleep 600");
    let exit = exit(&mut worker).await;
    assert!(exit.status.contains("no message"), "{}", exit.describe());
}

#[tokio::test]
async fn a_flood_without_an_end_of_line_is_swallowed_too() {
    let mut worker = script("head -c 50000000 /dev/zero >&2; exit 7");
    let exit = exit(&mut worker).await;
    assert_eq!(exit.code, Some(7));
    assert!(exit.stderr_tail.len() <= 400, "{} bytes are kept", exit.stderr_tail.len());
}

#[tokio::test]
async fn a_program_that_is_not_there_says_what_to_do() {
    let missing =
        WorkerCommand { program: PathBuf::from("/nowhere/springtide-torch-worker"), args: Vec::new() };
    let launcher = ProcessLauncher::with_commands(echo_command(), missing, WorkerRule::default());
    let error = launcher.launch(&spec(WorkerKind::Torch)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/nowhere/springtide-torch-worker") && text.contains("cargo xtask setup"),
        "{text}"
    );
}
