//! Nonsense on the standard input of workers that are real processes: they answer or end, and take no memory for it.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use springtide_tests::binary;
use springtide_tests::mutate::Mutator;
use springtide_worker_protocol::{Batch, FromWorker, Limits, Member, Subject, ToWorker, encode, read_frame};

/// Nothing here takes so long unless it is stuck.
const LIMIT: Duration = Duration::from_secs(60);
/// Frames whose header makes no sense, in one go.
const FRAMES: usize = 10_000;
/// What they may cost a worker; a frame may announce a GiB.
const MEMORY_BYTES: u64 = 200 << 20;

/// Which worker.
#[derive(Clone, Copy, Debug)]
enum Program {
    Echo,
    Torch,
}

struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<FromWorker>,
}

impl Worker {
    fn start(program: Program) -> Self {
        let mut command = match program {
            Program::Echo => Command::new(binary::path("springtide-node-agent").unwrap()),
            Program::Torch => Command::new(binary::path("springtide-torch-worker").unwrap()),
        };
        if matches!(program, Program::Echo) {
            command.arg("echo-worker");
        }
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = pipes.spawn().unwrap();
        let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        // Ends with the pipe.
        std::thread::spawn(move || {
            while let Some(frame) = read_frame::<FromWorker>(&mut stdout, &Limits::default()).unwrap() {
                let _ = sender.send(frame.message);
            }
        });
        let mut worker = Self { child, stdin, answers };
        worker.hears("ready", |answer| matches!(answer, FromWorker::Ready(_)));
        worker
    }

    /// Whether it took the bytes; it may have ended.
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.stdin.as_mut().unwrap().write_all(bytes).is_ok()
    }

    fn hears(&mut self, what: &str, wanted: impl Fn(&FromWorker) -> bool) {
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left);
            if wanted(&answer.unwrap_or_else(|error| panic!("waited {LIMIT:?} for {what}: {error}"))) {
                return;
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn end(&mut self, why: &str) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "waited {LIMIT:?} for the worker's end after {why}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let lengths = [(header.len() as u32).to_le_bytes().to_vec(), (body.len() as u64).to_le_bytes().to_vec()];
    [lengths.concat(), header.to_vec(), body.to_vec()].concat()
}

fn run(run: &str, model: &str, input: Value) -> ToWorker {
    let member = Member {
        fence: Some(3),
        checkpoint_every_steps: Some(5),
        ..Member::new("job_00000000000000000000000000/0", run, input)
    };
    ToWorker::Run(Batch { batch: 1, model: model.into(), members: vec![member] })
}

/// All that an agent may say, but for `shutdown`, which would end the worker in good order.
fn valid() -> Vec<Value> {
    let messages = [
        ToWorker::Load { model: "shapes@1".into(), dir: "/nowhere/shapes/1".into() },
        ToWorker::Unload { model: "shapes@1".into() },
        ToWorker::Cancel { run: "run_1".into(), checkpoint: true },
        run("run_1", "echo@1", json!({"output": [1, "two"]})),
        run("run_2", "shapes@1", json!({"prompt": "a red circle", "steps": 5, "seed": 7})),
    ];
    let json_of = |message: &ToWorker| {
        let mut header = serde_json::to_value(message).unwrap();
        header["v"] = json!(1);
        header
    };
    messages.iter().map(json_of).collect()
}

/// Headers that make no sense, in frames that do: the worker leaves them out and answers the next one.
fn senseless_headers(program: Program) {
    let mut worker = Worker::start(program);
    let before = worker.resident_bytes();
    let (mut mutator, valid) = (Mutator::seeded(5), valid());
    for _ in 0..FRAMES {
        let body = vec![7; mutator.below(32)];
        assert!(worker.write(&frame(&mutator.message(&valid), &body)), "it goes on reading");
    }
    match program {
        Program::Echo => {
            let last = encode(&run("last", "echo@1", json!({})), &[], &Limits::default()).unwrap();
            assert!(worker.write(&last));
            worker.hears(
                "the answer to a run",
                |answer| matches!(answer, FromWorker::Done(done) if done.run == "last"),
            );
        }
        Program::Torch => {
            let last = ToWorker::Load { model: "last@1".into(), dir: "/nowhere".into() };
            assert!(worker.write(&encode(&last, &[], &Limits::default()).unwrap()));
            let about_last = |answer: &FromWorker| matches!(answer, FromWorker::Failed(failed) if failed.subject == Subject::Model("last@1".into()));
            worker.hears("the answer to a load", about_last);
        }
    }
    let after = worker.resident_bytes();
    assert!(after < before + MEMORY_BYTES, "{before} bytes before, {after} after");
    // The end of its input ends it, whatever it still has to do.
    worker.stdin = None;
    worker.end("the end of its input");
}

/// Bytes that are no frames: the worker ends by itself, or with its input if it can't know yet.
fn no_frames(program: Program, streams: usize) {
    let mut mutator = Mutator::seeded(6);
    let valid = valid();
    for number in 0..streams {
        let mut worker = Worker::start(program);
        let before = worker.resident_bytes();
        let good = frame(&valid[1].to_string().into_bytes(), &[]);
        let (bytes, by_itself) = match number % 5 {
            // A header, and a body, that are larger than any may be.
            0 => ([u32::MAX.to_le_bytes().to_vec(), vec![0; 8]].concat(), true),
            1 => ([8_u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat(), true),
            // A body that may be so large, and does not come.
            2 => (
                [8_u32.to_le_bytes().to_vec(), (1_u64 << 30).to_le_bytes().to_vec(), vec![b' '; 1000]]
                    .concat(),
                false,
            ),
            // A frame that breaks off.
            3 => (good[..good.len() - 1 - mutator.below(20)].to_vec(), false),
            _ => ((0..4096).map(|_| mutator.below(256) as u8 | 0x80).collect(), true),
        };
        worker.write(&[good.clone(), good, bytes].concat());
        if by_itself {
            assert!(!worker.end("bytes that are no frame").success());
            continue;
        }
        std::thread::yield_now();
        assert!(!worker.has_ended(), "more may come");
        let after = worker.resident_bytes();
        assert!(after < before + MEMORY_BYTES, "{before} bytes before, {after} after");
        worker.stdin = None;
        worker.end("the end of its input");
    }
}

#[test]
fn an_echo_worker_leaves_senseless_headers_out() {
    senseless_headers(Program::Echo);
}

#[test]
fn a_torch_worker_leaves_senseless_headers_out() {
    senseless_headers(Program::Torch);
}

#[test]
fn an_echo_worker_ends_where_frames_end() {
    no_frames(Program::Echo, 25);
}

#[test]
fn a_torch_worker_ends_where_frames_end() {
    no_frames(Program::Torch, 5);
}
