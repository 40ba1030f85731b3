//! What the process does besides running models: garbage, cancels, ends; and the whole way of a picture.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

#[path = "support/models.rs"]
mod models;
#[path = "support/worker.rs"]
mod worker;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use springtide_worker_protocol::{
    Batch, ByteRange, Class, FromWorker, Limits, Output, ToWorker, encode, read_frame,
};
use tempfile::TempDir;
use worker::{Worker, member};

/// The tiny pipeline that the parity data come with; without the Python packages for that, the model that ships.
fn pipeline() -> Option<PathBuf> {
    models::parity().map(|dir| dir.join("models/epsilon")).or_else(models::shapes)
}

/// The same with a denoiser that takes its time.
fn slow_pipeline() -> Option<TempDir> {
    let dir = copy(&pipeline()?);
    fs::copy(models::scripts().join("slow.pt"), dir.path().join("denoiser.pt")).unwrap();
    Some(dir)
}

fn copy(from: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn input(seed: u64, steps: u32, sampler: &str) -> Value {
    json!({"prompt": "a Red circle", "negative_prompt": "", "steps": steps,
        "guidance_scale": 4.0, "sampler": sampler, "seed": seed, "images": 2})
}

fn pictures(end: worker::End) -> Vec<(u64, Vec<u8>)> {
    let (done, body) = end.done();
    let blobs = done.outputs.iter().map(|output| match output {
        Output::Blob { media_type, seed, body: range } => {
            assert_eq!(media_type, "image/png");
            (seed.unwrap(), range.of(&body).unwrap().to_vec())
        }
        Output::Tensors { .. } => panic!("{output:?}"),
    });
    blobs.collect()
}

#[test]
fn a_picture_comes_out_with_progress_and_its_parameters() {
    let Some(dir) = pipeline() else { return };
    let mut worker = Worker::start();
    assert!(worker.load("tiny@1", &dir).unwrap() > 100_000);
    let pictures = pictures(worker.run_alone("tiny@1", "r", input(7, 5, "dpmpp_2m")));
    assert_eq!(pictures.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [7, 8]);
    let steps = worker.seen.iter().map(|frame| match &frame.message {
        FromWorker::Progress { run, step, steps, fraction } => {
            (run.as_str(), *step, *steps, (fraction * 100.0) as u32)
        }
        other => panic!("{other:?}"),
    });
    let steps: Vec<_> = steps.collect();
    assert_eq!(steps, [("r", 1, 5, 20), ("r", 2, 5, 40), ("r", 3, 5, 60), ("r", 4, 5, 80), ("r", 5, 5, 100)]);
    let reader = png::Decoder::new(std::io::Cursor::new(&pictures[1].1)).read_info().unwrap();
    let text = &reader.info().uncompressed_latin1_text[0];
    assert_eq!(text.keyword, "parameters");
    let size = format!("Size: {}x{}", reader.info().width, reader.info().height);
    let expected =
        format!("a Red circle\nSteps: 5, Sampler: DPM++ 2M, CFG scale: 4, Seed: 8, {size}, Model: ");
    assert!(text.text.starts_with(&expected), "{}", text.text);
}

#[test]
fn tasks_of_one_batch_get_the_pictures_that_they_would_get_alone() {
    let Some(dir) = pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("tiny@1", &dir).unwrap();
    let inputs = [input(1, 4, "euler_a"), input(20, 4, "euler_a"), input(5, 6, "ddim"), json!({"prompt": 3})];
    let runs = ["a", "b", "c", "bad"];
    worker.run(
        "tiny@1",
        runs.iter().zip(&inputs).map(|(run, input)| member(run, input.clone())).collect(),
        &[],
    );
    assert_eq!(worker.end_of("bad").failed().pointer.as_deref(), Some("/prompt"));
    for (run, input) in runs.iter().zip(inputs).take(3) {
        let together = pictures(worker.end_of(run));
        let alone = pictures(worker.run_alone("tiny@1", "alone", input));
        for ((seed, one), (other_seed, other)) in together.iter().zip(&alone) {
            assert_eq!(seed, other_seed);
            assert!(pixels(one).iter().zip(pixels(other)).all(|(a, b)| a.abs_diff(b) <= 1), "{run}");
        }
    }
}

fn pixels(png: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

#[test]
fn a_resumed_run_ends_bit_for_bit_as_it_would_have() {
    let Some(dir) = pipeline() else { return };
    for sampler in
        ["ddim", "euler", "euler_karras", "euler_a", "euler_a_karras", "dpmpp_2m", "dpmpp_2m_karras"]
    {
        let mut first = Worker::start();
        first.load("tiny@1", &dir).unwrap();
        let mut whole = member("whole", input(3, 9, sampler));
        whole.checkpoint_every_steps = Some(4);
        first.run("tiny@1", vec![whole], &[]);
        let expected = pictures(first.end_of("whole"));
        let checkpoints = first.seen.iter().filter_map(|frame| match &frame.message {
            FromWorker::Checkpoint { step, body, .. } => {
                Some((*step, body.of(&frame.body).unwrap().to_vec()))
            }
            _ => None,
        });
        let checkpoints: Vec<_> = checkpoints.collect();
        assert_eq!(checkpoints.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 8]);

        let mut second = Worker::start();
        second.load("tiny@1", &dir).unwrap();
        for (step, bytes) in checkpoints {
            let body = [b"something else", &bytes[..]].concat();
            let mut rest = member("rest", input(3, 9, sampler));
            rest.resume = Some(ByteRange { offset: 14, len: bytes.len() as u64 });
            second.seen.clear();
            second.run("tiny@1", vec![rest], &body);
            assert_eq!(pictures(second.end_of("rest")), expected, "{sampler} from step {step}");
            assert_eq!(second.seen.len() as u32, 9 - step, "it goes on where it was");
        }
    }
}

#[test]
fn a_run_that_is_stopped_leaves_a_checkpoint_where_it_was() {
    let Some(dir) = slow_pipeline() else { return };
    let mut first = Worker::start();
    first.load("slow@1", dir.path()).unwrap();
    let expected = pictures(first.run_alone("slow@1", "whole", input(3, 20, "euler_a")));
    first.seen.clear();
    first.run("slow@1", vec![member("r", input(3, 20, "euler_a"))], &[]);
    assert!(matches!(first.next().message, FromWorker::Progress { step: 1, .. }));
    first.send(&ToWorker::Cancel { run: "r".into(), checkpoint: true }, &[]);
    assert_eq!(first.end_of("r").failed().class, Class::Evicted);
    let last = first.seen.pop_back().unwrap();
    let FromWorker::Checkpoint { run, step, body } = last.message else { panic!("{last:?}") };
    assert_eq!((run.as_str(), first.seen.len() as u32 + 2), ("r", step), "the state after its last step");
    let mut rest = member("rest", input(3, 20, "euler_a"));
    rest.resume = Some(body);
    first.seen.clear();
    first.run("slow@1", vec![rest], &last.body);
    assert_eq!(pictures(first.end_of("rest")), expected);
    assert_eq!(first.seen.len() as u32, 20 - step, "no step is done twice");
}

#[test]
fn checkpoints_come_by_time_too() {
    let Some(dir) = pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("tiny@1", &dir).unwrap();
    let mut steps_of = |every_s| {
        let mut timed = member("r", input(3, 5, "euler"));
        timed.checkpoint_every_s = Some(every_s);
        worker.seen.clear();
        worker.run("tiny@1", vec![timed], &[]);
        worker.end_of("r").done();
        let steps = worker.seen.iter().filter_map(|frame| match frame.message {
            FromWorker::Checkpoint { step, .. } => Some(step),
            _ => None,
        });
        steps.collect::<Vec<_>>()
    };
    assert_eq!(steps_of(0.0), [1, 2, 3, 4], "after each step but the last");
    assert!(steps_of(3600.0).is_empty(), "none of a run that is done before");
}

#[test]
fn a_broken_checkpoint_costs_time_and_nothing_else() {
    let Some(dir) = pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("tiny@1", &dir).unwrap();
    let expected = pictures(worker.run_alone("tiny@1", "whole", input(3, 4, "euler")));
    for resume in [ByteRange { offset: 0, len: 7 }, ByteRange { offset: 5, len: 1000 }] {
        let mut rest = member("rest", input(3, 4, "euler"));
        rest.resume = Some(resume);
        worker.run("tiny@1", vec![rest], b"garbage");
        assert_eq!(pictures(worker.end_of("rest")), expected);
    }
}

#[test]
fn a_cancel_is_seen_between_two_steps() {
    let Some(dir) = slow_pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("slow@1", dir.path()).unwrap();
    worker.run("slow@1", vec![member("r", input(1, 100, "euler"))], &[]);
    // And one that waits: cancelled before it starts.
    worker.run("slow@1", vec![member("next", input(1, 100, "euler"))], &[]);
    assert!(matches!(worker.next().message, FromWorker::Progress { step: 1, .. }));
    worker.send(&ToWorker::Cancel { run: "next".into(), checkpoint: false }, &[]);
    worker.send(&ToWorker::Cancel { run: "r".into(), checkpoint: false }, &[]);
    worker.send(&ToWorker::Cancel { run: "unknown".into(), checkpoint: false }, &[]);
    for run in ["r", "next"] {
        let failed = worker.end_of(run).failed();
        assert_eq!((failed.class, failed.message.as_str()), (Class::Evicted, "cancelled"));
    }
    assert!(worker.seen.len() < 90, "it stopped before its end");
    let of_next = |frame: &springtide_worker_protocol::Frame<FromWorker>| matches!(&frame.message, FromWorker::Progress { run, .. } if run == "next");
    assert!(!worker.seen.iter().any(of_next), "what was cancelled while it waited never starts");
}

#[test]
fn one_member_of_a_batch_can_be_cancelled() {
    let Some(dir) = slow_pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("slow@1", dir.path()).unwrap();
    worker.run("slow@1", vec![member("a", input(1, 12, "euler")), member("b", input(5, 12, "euler"))], &[]);
    worker.next();
    worker.send(&ToWorker::Cancel { run: "a".into(), checkpoint: false }, &[]);
    assert_eq!(worker.end_of("a").failed().class, Class::Evicted);
    assert_eq!(pictures(worker.end_of("b")).len(), 2);
}

#[test]
fn it_ends_when_its_agent_is_gone() {
    let Some(dir) = slow_pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("slow@1", dir.path()).unwrap();
    worker.run("slow@1", vec![member("r", input(1, 100, "euler"))], &[]);
    worker.next();
    let (status, errors) = worker.close();
    assert!(status.success(), "{errors}");
}

#[test]
fn shutdown_lets_what_was_sent_before_end() {
    let Some(dir) = pipeline() else { return };
    let mut worker = Worker::start();
    worker.load("tiny@1", &dir).unwrap();
    worker.run("tiny@1", vec![member("r", input(1, 3, "euler"))], &[]);
    worker.send(&ToWorker::Shutdown, &[]);
    assert_eq!(pictures(worker.end_of("r")).len(), 2);
    assert!(worker.close().0.success());
}

#[test]
fn garbage_ends_it_with_a_word() {
    let mut worker = Worker::start();
    worker.write(&[0xff; 64]);
    let (status, errors) = worker.close();
    assert!(!status.success());
    assert!(errors.contains("is something else writing to this pipe?"), "{errors}");
}

#[test]
fn a_part_with_a_wrong_signature_is_refused_when_it_is_loaded() {
    let Some(good) = pipeline() else { return };
    let mut worker = Worker::start();
    for (file, message) in [
        ("decoder.pt", "decoder.pt gives a tensor of shape"),
        ("text_encoder.pt", "text_encoder.pt gives a tensor of shape"),
        ("denoiser.pt", "denoiser.pt: "),
    ] {
        let dir = copy(&good);
        fs::copy(models::scripts().join("picky.pt"), dir.path().join(file)).unwrap();
        let failed = worker.load("tiny@1", dir.path()).unwrap_err();
        assert_eq!(failed.class, Class::Invalid);
        assert!(failed.message.starts_with(message), "{}", failed.message);
    }
    worker.load("tiny@1", &good).unwrap();
}

#[test]
fn an_unknown_device_is_named() {
    let worker = || std::process::Command::new(env!("CARGO_BIN_EXE_springtide-torch-worker"));
    let output = worker().args(["--device", "toaster"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("`toaster` is no device"));
    let output = worker().args(["--device", "cuda:99"]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_picture_needs_no_socket_few_files_and_no_more_memory_than_it_is_given() {
    let Some(dir) = pipeline() else { return };
    let limits = ["--sockets", "none", "--max-files", "64", "--max-memory-bytes", "17179869184"];
    let mut worker = Worker::start_with(&limits);
    let status = fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    assert!(status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])), "{status}");
    worker.load("tiny@1", &dir).unwrap();
    assert_eq!(pictures(worker.run_alone("tiny@1", "r", input(7, 3, "euler"))).len(), 2);
}

/// Hundredths of a second that a process has computed: the 14th field of `/proc/PID/stat` (proc(5)).
fn ticks(process: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse().unwrap()
}

/// A worker with a parent between the test and it, so that the worker's pipes stay open when the parent dies. (A shell
/// gives what it starts in the background an empty input, if not told otherwise.)
fn with_a_parent() -> (Child, ChildStdin, ChildStdout, Pid) {
    let mut parent = std::process::Command::new("sh")
        .args(["-c", "exec 3<&0; \"$0\" <&3 & wait", env!("CARGO_BIN_EXE_springtide-torch-worker")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = parent.stdin.take().unwrap();
    let mut stdout = parent.stdout.take().unwrap();
    let ready = read_frame::<FromWorker>(&mut stdout, &Limits::default()).unwrap().unwrap();
    let FromWorker::Ready(ready) = ready.message else { panic!("{ready:?}") };
    (parent, stdin, stdout, Pid::from_raw(ready.pid.cast_signed()))
}

#[test]
fn it_dies_with_its_parent_in_the_middle_of_a_call_without_an_end() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(models::scripts().join("endless.pt"), dir.path().join("model.pt")).unwrap();
    let manifest = "name = \"endless\"\nversion = \"1\"\nkind = \"torchscript\"\nentry = \"model.pt\"\n[files]\n\
        \"model.pt\" = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n\
        [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1]\n\
        [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n";
    fs::write(dir.path().join("model.toml"), manifest).unwrap();
    let (mut parent, mut stdin, mut stdout, worker) = with_a_parent();
    let input = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]});
    let load = ToWorker::Load { model: "endless@1".into(), dir: dir.path().into() };
    let batch = Batch { batch: 1, model: "endless@1".into(), members: vec![member("r", input)] };
    let mut say =
        |message: ToWorker| stdin.write_all(&encode(&message, &[], &Limits::default()).unwrap()).unwrap();
    say(load);
    let loaded = read_frame::<FromWorker>(&mut stdout, &Limits::default()).unwrap().unwrap();
    assert!(matches!(loaded.message, FromWorker::Loaded { .. }), "{loaded:?}");
    let idle = ticks(worker);
    say(ToWorker::Run(batch));
    // So long it computes for nothing but the call.
    worker::wait_until("it to compute", || ticks(worker) >= idle + 30);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "its end closes the pipe, and it had not answered");
}

#[test]
fn it_dies_with_its_parent_and_of_nothing_else() {
    let (mut parent, stdin, mut stdout, worker) = with_a_parent();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        kill(worker, signal).unwrap();
    }
    // Still there: it answers.
    let bytes =
        encode(&ToWorker::Load { model: "m@1".into(), dir: "/nowhere".into() }, &[], &Limits::default());
    (&stdin).write_all(&bytes.unwrap()).unwrap();
    let answer = read_frame::<FromWorker>(&mut stdout, &Limits::default()).unwrap().unwrap();
    assert!(matches!(answer.message, FromWorker::Failed(_)));

    parent.kill().unwrap();
    parent.wait().unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "its end closes the pipe");
}
