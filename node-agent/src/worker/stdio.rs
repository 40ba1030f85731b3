//! The echo worker's process: frames on standard input and output.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use springtide_core::model::EchoCrash;
use springtide_worker_confinement::Confinement;
use springtide_worker_protocol::{Decoder, Frame, FrameError, FromWorker, Limits, ToWorker, encode};
use tokio::sync::mpsc;

use super::echo;

/// What is read from or written to a pipe at once.
const CHUNK: usize = 64 << 10;

/// The whole of `springtide-node-agent echo-worker` and of `springtide echo-worker`.
pub fn echo_worker_main(confinement: &Confinement) -> ExitCode {
    match run(confinement) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(confinement: &Confinement) -> anyhow::Result<()> {
    let agent = confinement.apply()?;
    let (commands, frames) = mpsc::channel(64);
    let (answers, from) = mpsc::channel(64);
    // Not joined: it may be deep in a read when everything is done.
    let (broken, why) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name("frames-in".into()).spawn(move || {
        if let Err(error) = read(&commands) {
            // Heard only once the commands have ended.
            let _ = broken.send(error);
        }
        drop(commands);
    })?;
    let writer = thread::Builder::new().name("frames-out".into()).spawn(move || write(from))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(echo::serve(frames, answers, Arc::new(move |what| crash(what, agent))));
    let written = writer.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))?;
    // The agent has closed the pipe: it knows, and there is nobody to be told.
    written.or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })?;
    match why.try_recv() {
        Ok(error) => Err(error.into()),
        Err(_) => Ok(()),
    }
}

fn crash(what: EchoCrash, agent: Pid) {
    match what {
        EchoCrash::Worker => {
            eprintln!("crashing, as the task asks");
            std::process::abort();
        }
        EchoCrash::Agent => {
            // Nothing is left to be told if it fails.
            let _ = kill(agent, Signal::SIGKILL);
        }
    }
}

/// Until the end of the input, or until it is no protocol any more.
fn read(commands: &mpsc::Sender<Frame<ToWorker>>) -> Result<(), FrameError> {
    let mut decoder = Decoder::new(Limits::default());
    let mut stdin = std::io::stdin().lock();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match stdin.read(&mut chunk) {
            Ok(0) | Err(_) => return decoder.finish(),
            Ok(read) => read,
        };
        decoder.feed(&chunk[..read]);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if commands.blocking_send(frame).is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => break,
                Err(error) if error.is_recoverable() => eprintln!("echo worker: {error}"),
                Err(error) => return Err(error),
            }
        }
    }
}

fn write(mut answers: mpsc::Receiver<FromWorker>) -> std::io::Result<()> {
    let limits = Limits::default();
    let mut stdout = std::io::stdout().lock();
    while let Some(answer) = answers.blocking_recv() {
        let mut bytes = Vec::new();
        let mut next = Some(answer);
        while let Some(answer) = next {
            bytes.extend(encode(&answer, &[], &limits).map_err(std::io::Error::other)?);
            next = if bytes.len() < CHUNK { answers.try_recv().ok() } else { None };
        }
        stdout.write_all(&bytes)?;
        stdout.flush()?;
    }
    Ok(())
}
