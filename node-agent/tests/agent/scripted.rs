//! Workers that do what a test says, frame by frame.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use springtide_node_agent::worker::{
    Exit, LaunchError, Worker, WorkerEvent, WorkerLauncher, WorkerSide, WorkerSpec,
};
use springtide_worker_protocol::{
    Batch, ByteRange, Class, Device, DeviceKind, Done, Failed, Frame, FromWorker, Output, Ready, Subject,
    Timings, ToWorker,
};
use tokio::sync::Notify;

/// Launches workers whose other ends the test holds.
#[derive(Clone, Default)]
pub struct Scripted {
    launched: Arc<Mutex<VecDeque<(WorkerSpec, WorkerSide)>>>,
    any: Arc<Notify>,
}

impl WorkerLauncher for Scripted {
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError> {
        let (worker, side) = Worker::pair(None);
        self.launched.lock().unwrap().push_back((spec.clone(), side));
        self.any.notify_one();
        Ok(worker)
    }
}

impl Scripted {
    /// The next worker that is launched, before it says anything.
    pub async fn silent(&self) -> Script {
        loop {
            let next = self.launched.lock().unwrap().pop_front();
            if let Some((spec, side)) = next {
                return Script { spec, side: Some(side) };
            }
            self.any.notified().await;
        }
    }

    /// The next worker that is launched, once it has said that it is ready for one batch.
    pub async fn ready(&self) -> Script {
        self.ready_for(1).await
    }

    /// The same, for so many batches at once.
    pub async fn ready_for(&self, concurrency: u32) -> Script {
        let mut script = self.silent().await;
        script.say_ready_for(concurrency).await;
        script
    }
}

/// A worker's end.
pub struct Script {
    pub spec: WorkerSpec,
    side: Option<WorkerSide>,
}

impl Script {
    fn side(&mut self) -> &mut WorkerSide {
        self.side.as_mut().expect("the worker lives")
    }

    pub async fn say_ready(&mut self) {
        self.say_ready_for(1).await;
    }

    async fn say_ready_for(&mut self, concurrency: u32) {
        let ready = Ready {
            kind: self.spec.kind,
            device: Device { kind: DeviceKind::Cpu, index: 0, name: "scripted".into(), memory_bytes: None },
            concurrency,
            pid: 0,
            versions: [].into(),
        };
        self.say(FromWorker::Ready(ready)).await;
    }

    pub async fn say(&mut self, message: FromWorker) {
        self.say_with(message, Vec::new()).await;
    }

    pub async fn say_with(&mut self, message: FromWorker, body: Vec<u8>) {
        let frame = Box::new(Frame { message, body });
        self.side().outbox.send(WorkerEvent::Frame(frame)).await.unwrap();
    }

    pub async fn hear(&mut self) -> ToWorker {
        self.hear_frame().await.message
    }

    pub async fn hear_frame(&mut self) -> Frame<ToWorker> {
        self.side().inbox.recv().await.expect("the agent speaks")
    }

    /// Nothing was said to it so far.
    pub fn hears_nothing(&mut self) -> bool {
        self.side().inbox.try_recv().is_err()
    }

    /// The next batch; models are loaded on the way to it.
    pub async fn batch(&mut self) -> Batch {
        self.batch_with_body().await.0
    }

    /// The same, with what came along.
    pub async fn batch_with_body(&mut self) -> (Batch, Vec<u8>) {
        loop {
            let Frame { message, body } = self.hear_frame().await;
            match message {
                ToWorker::Load { model, .. } => {
                    self.say(FromWorker::Loaded { model, load_s: 0.0, memory_bytes: 1 }).await;
                }
                ToWorker::Run(batch) => return (batch, body),
                ToWorker::Unload { .. } => {}
                other => panic!("{other:?} instead of a batch"),
            }
        }
    }

    pub async fn done(&mut self, run: &str) {
        let outputs: Vec<Output> = Vec::new();
        let timings = Timings::default();
        self.say(FromWorker::Done(Done { run: run.to_owned(), outputs, timings })).await;
    }

    pub async fn checkpoint(&mut self, run: &str, step: u32, state: &[u8]) {
        let mut frame = b"before".to_vec();
        let body = ByteRange::append(&mut frame, state);
        self.say_with(FromWorker::Checkpoint { run: run.to_owned(), step, body }, frame).await;
    }

    pub async fn failed(&mut self, run: &str, class: Class, out_of_memory: bool) {
        let subject = Subject::Run(run.to_owned());
        let message = "scripted".to_owned();
        self.say(FromWorker::Failed(Failed { subject, class, out_of_memory, message, pointer: None })).await;
    }

    /// Answers all of a batch.
    pub async fn all_done(&mut self, batch: &Batch) {
        for member in &batch.members {
            self.done(&member.run).await;
        }
    }

    pub async fn killed(&mut self) {
        self.side().kill.clone().cancelled().await;
    }

    pub async fn exit(&mut self, status: &str, code: Option<i32>, stderr_tail: &str) {
        let exit = Exit { status: status.to_owned(), code, stderr_tail: stderr_tail.to_owned() };
        let side = self.side.take().expect("the worker lives");
        side.outbox.send(WorkerEvent::Exited(exit)).await.unwrap();
    }
}

/// The tasks of a batch, by their index.
pub fn indices(batch: &Batch) -> Vec<u32> {
    batch.members.iter().map(|member| member.task.rsplit('/').next().unwrap().parse().unwrap()).collect()
}
