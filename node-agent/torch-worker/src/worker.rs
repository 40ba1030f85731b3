//! The worker's process: frames in, one batch at a time on the device, frames out.

mod answers;
mod outbox;
mod reader;
mod runs;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{stderr, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::Context;
use nix::unistd::{dup, dup2_stdout};
use springtide_worker_confinement::Confinement;
use springtide_worker_protocol::{Batch, FromWorker, Ready, Subject, WorkerKind};

pub use answers::Answers;
pub use outbox::Outbox;
pub use runs::{Farewell, Runs, Standing};

use crate::{AnyDevice, Failure, Model, text_to_image};
use reader::{Command, Received};

/// How to start a worker.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "springtide-torch-worker", version, about = "Runs models with libtorch for a node agent")]
pub struct Options {
    /// The device to run on: cpu, or cuda:0, cuda:1, …
    #[arg(long, default_value = "cpu")]
    pub device: AnyDevice,
    /// Threads of one operation on the CPU; libtorch's own choice if absent.
    #[arg(long)]
    pub threads: Option<std::num::NonZeroU16>,
    /// What it takes from itself.
    #[command(flatten)]
    pub confinement: Confinement,
}

/// Runs until the agent says `shutdown` or is gone.
pub fn run(options: &Options) -> anyhow::Result<()> {
    options.confinement.apply()?;
    // Frames go to where standard output was; whatever libtorch prints goes to standard error.
    let frames = dup(stdout()).context("keeping standard output for frames")?;
    dup2_stdout(stderr()).context("pointing standard output at standard error")?;

    let device = options.device.open()?;
    if let Some(threads) = options.threads {
        tch::set_num_threads(i32::from(threads.get().cast_signed().max(1)));
    }
    // The fuser compiles anew for each shape, which costs seconds; batches come in all shapes.
    tch::jit::f_set_tensor_expr_fuser_enabled(false)?;

    let outbox = Outbox::new(File::from(frames));
    let runs = Arc::new(Runs::default());
    let (commands, reader) = reader::start(std::io::stdin(), Arc::clone(&runs));
    outbox.send(&FromWorker::Ready(ready(options.device)), &[]);
    let mut worker = Worker { device, outbox, runs, models: HashMap::new() };
    if worker.work(&commands)? == Ending::OfInput {
        // It may still be about to end.
        reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))??;
    }
    Ok(())
}

fn ready(device: AnyDevice) -> Ready {
    let versions = [("worker", env!("CARGO_PKG_VERSION")), ("libtorch", env!("SPRINGTIDE_LIBTORCH_VERSION"))];
    Ready {
        kind: WorkerKind::Torch,
        device: device.describe(),
        concurrency: 1,
        pid: std::process::id(),
        versions: BTreeMap::from(versions.map(|(name, version)| (name.to_owned(), version.to_owned()))),
    }
}

/// Why the device has no more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It was told to end; its input may stay open.
    Told,
    /// Its input ended, well or not: the reading thread knows.
    OfInput,
}

/// What the device's thread holds.
struct Worker {
    device: tch::Device,
    outbox: Outbox,
    runs: Arc<Runs>,
    models: HashMap<String, Model>,
}

impl Worker {
    /// Until the commands end, or the device or the pipe is broken.
    fn work(&mut self, commands: &Receiver<Received>) -> anyhow::Result<Ending> {
        while let Ok(Received { command, body, at }) = commands.recv() {
            match command {
                Command::Load { model, dir } => self.load(model, &dir)?,
                Command::Unload { model } => drop(self.models.remove(&model)),
                Command::Run(batch) => self.run(&batch, &body, at)?,
                Command::Shutdown => return Ok(Ending::Told),
            }
            anyhow::ensure!(!self.outbox.is_broken(), "the agent reads no more; giving up");
        }
        Ok(Ending::OfInput)
    }

    fn load(&mut self, model: String, dir: &Path) -> anyhow::Result<()> {
        let started = now();
        if !self.models.contains_key(&model) {
            let loaded = catch_unwind(|| Model::load(dir, self.device));
            match loaded.unwrap_or_else(|panic| Err(Failure::panic(panic.as_ref()))) {
                Ok(loaded) => drop(self.models.insert(model.clone(), loaded)),
                Err(failure) => {
                    let failed = failure.to_message(Subject::Model(model));
                    self.outbox.send(&FromWorker::Failed(failed), &[]);
                    return give_up_if_fatal(Some(&failure));
                }
            }
        }
        let memory_bytes = self.models.get(&model).map_or(0, Model::memory_bytes);
        let load_s = started.elapsed().as_secs_f64();
        self.outbox.send(&FromWorker::Loaded { model, load_s, memory_bytes }, &[]);
        Ok(())
    }

    fn run(&mut self, batch: &Batch, body: &[u8], at: Instant) -> anyhow::Result<()> {
        let mut answers = Answers::new(&self.outbox, &self.runs, batch, at);
        let Some(model) = self.models.get(&batch.model) else {
            answers.fail_rest(&Failure::device(format!("{} is not loaded in this worker", batch.model)));
            return Ok(());
        };
        let result = catch_unwind(AssertUnwindSafe(|| match model {
            Model::TorchScript(model) => model.run(&batch.members, &mut answers),
            Model::TextToImage(pipeline) => text_to_image::run(pipeline, &batch.members, body, &mut answers),
        }));
        let rest = match &result {
            Ok(()) => Failure::device("the worker forgot this run; this is a mistake in the worker"),
            Err(panic) => Failure::panic(panic.as_ref()),
        };
        answers.fail_rest(&rest);
        give_up_if_fatal(answers.fatal())
    }
}

#[allow(clippy::disallowed_methods, reason = "no tokio in this process: the device's thread blocks")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn give_up_if_fatal(failure: Option<&Failure>) -> anyhow::Result<()> {
    match failure {
        Some(failure) if failure.is_fatal() => anyhow::bail!("the device can't be used any more: {failure}"),
        _ => Ok(()),
    }
}
