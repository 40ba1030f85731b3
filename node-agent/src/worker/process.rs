//! One child process and the tasks around it: frames in, frames out, standard error, the end.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use springtide_worker_protocol::{Decoder, Frame, FrameError, FromWorker, Limits, ToWorker, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::launcher::WorkerCommand;
use super::stderr::Tail;
use super::{Exit, Worker, WorkerEvent, WorkerSide, WorkerSpec};

/// How long the pipes of a worker that has ended may stay open: a grandchild may hold them.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is read from a pipe at once.
const CHUNK: usize = 64 << 10;

/// How glibc's allocator is set in workers, unless the agent's own environment says otherwise: it keeps what a run frees
/// for the next one (glibc manual, "Memory Allocation Tunables"). Left alone it gives every larger tensor back to the
/// system, and the page faults of having it again took up to a fifth of a run of 15 ms on a CPU.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "1073741824")];

/// Starts it. The process is in a group of its own, so that a Ctrl-C at the terminal reaches the agent alone, which
/// then lets its workers finish.
pub(super) fn spawn(spec: &WorkerSpec, command: &WorkerCommand, more: &[OsString]) -> io::Result<Worker> {
    let mut child = Command::new(&command.program)
        .args(&command.args)
        .args(more)
        .envs(ALLOCATOR.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::other("the worker was started without pipes");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let (worker, side) = Worker::pair(child.id());
    tracing::debug!(worker = %spec, pid = worker.pid, "worker started");
    tokio::spawn(supervise(child, side, Pipes { stdin, stdout, stderr }, spec.to_string()));
    Ok(worker)
}

struct Pipes {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

/// Ends when the process has ended, or when it was killed; both are said as the last event.
async fn supervise(mut child: Child, side: WorkerSide, pipes: Pipes, name: String) {
    let WorkerSide { inbox, outbox, kill } = side;
    let tail = Tail::default();
    let mut writer = tokio::spawn(write_frames(pipes.stdin, inbox));
    let mut reader = tokio::spawn(read_frames(pipes.stdout, outbox.clone()));
    let mut listener = tokio::spawn(tail.clone().listen(pipes.stderr, name));
    let garbage = tokio::select! {
        biased;
        () = kill.cancelled() => None,
        _ = child.wait() => None,
        // Standard output is at its end. That of a process which goes on running is as bad as garbage.
        said = &mut reader => match said {
            Ok(Err(garbage)) => Some(garbage.to_string()),
            _ => timeout(LAST_WORDS, child.wait()).await.is_err().then(|| "it closed its output".to_owned()),
        },
    };
    end_group(&mut child);
    let status = child.wait().await;
    // Frames that it wrote before its end come before the news of it.
    if !reader.is_finished() {
        let _ = timeout(LAST_WORDS, &mut reader).await;
    }
    let _ = timeout(LAST_WORDS, &mut listener).await;
    writer.abort();
    reader.abort();
    listener.abort();
    let _ = (&mut writer).await;
    let described = status.as_ref().map_or_else(|e| format!("unknown: {e}"), |status| describe(*status));
    let exit = Exit {
        status: garbage.map_or(described, |what| format!("killed by the agent: {what}")),
        code: status.ok().and_then(|status| status.code()),
        stderr_tail: tail.text(),
    };
    // Nobody listens any more when the agent itself has dropped it.
    let _ = outbox.send(WorkerEvent::Exited(exit)).await;
}

/// Ends it, and with it what it has started: they are a group of their own. It may have ended already.
fn end_group(child: &mut Child) {
    // Without an id it was waited for, and the number may be another's by now.
    if let Some(id) = child.id() {
        let _ = killpg(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
    }
    let _ = child.start_kill();
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(number) => {
            let name = Signal::try_from(number).map_or("", Signal::as_str);
            format!("killed by signal {number} {name}").trim_end().to_owned()
        }
        None => format!("exit code {}", status.code().unwrap_or_default()),
    }
}

/// Writes what there is, as few times as possible. Closing the pipe tells the worker to end.
async fn write_frames(mut stdin: ChildStdin, mut frames: mpsc::Receiver<Frame<ToWorker>>) {
    let limits = Limits::default();
    let mut bytes = Vec::new();
    while let Some(frame) = frames.recv().await {
        bytes.clear();
        let mut next = Some(frame);
        while let Some(frame) = next {
            match encode(&frame.message, &frame.body, &limits) {
                Ok(encoded) => bytes.extend_from_slice(&encoded),
                // Inputs are far smaller than the limit; the run's own time limit ends it.
                Err(error) => tracing::error!(%error, "a frame could not be written"),
            }
            next = if bytes.len() < CHUNK { frames.try_recv().ok() } else { None };
        }
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Until the end of the output, or until it is no protocol any more.
async fn read_frames(mut stdout: ChildStdout, events: mpsc::Sender<WorkerEvent>) -> Result<(), FrameError> {
    let mut decoder = Decoder::new(Limits::default());
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = stdout.read(&mut chunk).await?;
        if read == 0 {
            return decoder.finish();
        }
        decoder.feed(&chunk[..read]);
        // One answer that can't be read is one that is lost, so even a recoverable error ends the worker.
        while let Some(frame) = decoder.next_frame::<FromWorker>()? {
            if events.send(WorkerEvent::Frame(Box::new(frame))).await.is_err() {
                return Ok(());
            }
        }
    }
}
