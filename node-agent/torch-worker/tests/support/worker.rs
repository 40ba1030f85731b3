//! The real worker as a child process.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use springtide_worker_protocol::{
    Batch, Done, Failed, Frame, FromWorker, Limits, Member, Subject, ToWorker, encode, read_frame,
};

/// No answer takes this long, on any machine that tests run on.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a run ended.
#[derive(Debug)]
pub enum End {
    Done(Done, Vec<u8>),
    Failed(Failed),
}

pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    frames: Receiver<Frame<FromWorker>>,
    errors: thread::JoinHandle<String>,
    /// Frames that were passed over while another was waited for.
    pub seen: VecDeque<Frame<FromWorker>>,
}

impl Worker {
    /// Starts it and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_springtide-torch-worker"))
            .args(["--device", "cpu", "--threads", "1"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, frames) = channel();
        thread::spawn(move || {
            while let Some(frame) =
                read_frame(&mut stdout, &Limits::default()).expect("only frames on standard output")
            {
                let _ = sender.send(frame);
            }
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let stdin = child.stdin.take();
        let mut worker = Self { child, stdin, frames, errors, seen: VecDeque::new() };
        let Frame { message: FromWorker::Ready(ready), .. } = worker.next() else {
            panic!("ready comes first")
        };
        assert_eq!((ready.concurrency, ready.pid), (1, worker.child.id()));
        worker
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn send(&mut self, message: &ToWorker, body: &[u8]) {
        self.write(&encode(message, body, &Limits::default()).unwrap());
    }

    pub fn next(&mut self) -> Frame<FromWorker> {
        match self.frames.recv_timeout(PATIENCE) {
            Ok(frame) => frame,
            Err(RecvTimeoutError::Timeout) => panic!("no frame for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the worker ended: {:?}", self.child.wait()),
        }
    }

    /// Loads a model directory; a failure is given back.
    pub fn load(&mut self, model: &str, dir: &Path) -> Result<u64, Failed> {
        self.send(&ToWorker::Load { model: model.into(), dir: dir.into() }, &[]);
        match self.next().message {
            FromWorker::Loaded { model: loaded, memory_bytes, .. } if loaded == model => Ok(memory_bytes),
            FromWorker::Failed(failed) => Err(failed),
            other => panic!("{other:?} in answer to `load`"),
        }
    }

    pub fn run(&mut self, model: &str, members: Vec<Member>, body: &[u8]) {
        self.send(&ToWorker::Run(Batch { batch: 1, model: model.into(), members }), body);
    }

    /// Waits for the end of a run; all other frames are kept in `seen`.
    pub fn end_of(&mut self, run: &str) -> End {
        let is_end = |frame: &Frame<FromWorker>| match &frame.message {
            FromWorker::Done(done) => done.run == run,
            FromWorker::Failed(failed) => failed.subject == Subject::Run(run.into()),
            _ => false,
        };
        let frame = loop {
            if let Some(at) = self.seen.iter().position(is_end) {
                break self.seen.remove(at).unwrap();
            }
            let frame = self.next();
            self.seen.push_back(frame);
        };
        match frame.message {
            FromWorker::Done(done) => End::Done(done, frame.body),
            FromWorker::Failed(failed) => End::Failed(failed),
            _ => unreachable!(),
        }
    }

    /// Runs one task alone.
    pub fn run_alone(&mut self, model: &str, run: &str, input: Value) -> End {
        self.run(model, vec![member(run, input)], &[]);
        self.end_of(run)
    }

    /// Closes its standard input and waits for its end; also what it wrote to standard error.
    pub fn close(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        (status, self.errors.join().unwrap())
    }
}

/// Waits until something is so.
#[allow(clippy::disallowed_methods, reason = "no tokio in these tests")]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("waited {PATIENCE:?} for {what}");
}

pub fn member(run: &str, input: Value) -> Member {
    Member::new(format!("job_test/{run}"), run, input)
}

impl End {
    pub fn done(self) -> (Done, Vec<u8>) {
        match self {
            Self::Done(done, body) => (done, body),
            Self::Failed(failed) => panic!("{failed:?}"),
        }
    }

    pub fn failed(self) -> Failed {
        match self {
            Self::Failed(failed) => failed,
            Self::Done(done, _) => panic!("{done:?}"),
        }
    }
}
