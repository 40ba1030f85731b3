//! The thread that reads frames, so that a cancel is seen while the device works.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use springtide_worker_protocol::{Batch, Frame, FrameError, Limits, ToWorker, read_frame};

use super::runs::{Farewell, Runs};

/// Commands that may wait for the device. An agent that sends more waits, and its cancels with it.
const WAITING_COMMANDS: usize = 64;

/// What the device's thread is asked to do, in order.
#[derive(Debug)]
pub(super) enum Command {
    Load { model: String, dir: PathBuf },
    Unload { model: String },
    Run(Batch),
    Shutdown,
}

/// A command with what came along.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) command: Command,
    pub(super) body: Vec<u8>,
    pub(super) at: Instant,
}

/// Starts reading. The channel ends with the stream; the thread's result says why.
pub(super) fn start(
    pipe: impl Read + Send + 'static,
    runs: Arc<Runs>,
) -> (Receiver<Received>, JoinHandle<Result<(), FrameError>>) {
    let (sender, receiver) = sync_channel(WAITING_COMMANDS);
    let thread = thread::spawn(move || {
        let result = read(pipe, &runs, &sender);
        // The agent is gone, or not to be understood: nobody waits for what is under way.
        runs.cancel_all();
        result
    });
    (receiver, thread)
}

fn read(mut pipe: impl Read, runs: &Runs, commands: &SyncSender<Received>) -> Result<(), FrameError> {
    loop {
        let Frame { message, body } = match read_frame::<ToWorker>(&mut pipe, &Limits::default()) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(error) if error.is_recoverable() => {
                eprintln!("a frame was left out: {error}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let command = match message {
            ToWorker::Cancel { run, checkpoint } => {
                runs.cancel(&run, if checkpoint { Farewell::Checkpoint } else { Farewell::None });
                continue;
            }
            ToWorker::Run(batch) => {
                runs.arrive(&batch);
                Command::Run(batch)
            }
            ToWorker::Load { model, dir } => Command::Load { model, dir },
            ToWorker::Unload { model } => Command::Unload { model },
            ToWorker::Shutdown => Command::Shutdown,
        };
        if commands.send(Received { command, body, at: super::now() }).is_err() {
            return Ok(());
        }
    }
}
