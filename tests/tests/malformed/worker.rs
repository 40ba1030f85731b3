//! Workers whose answers make no sense: they are replaced, what they ran is run again or fails, and the agent lives.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use springtide_broker::{Config, Memory};
use springtide_node_agent::worker::{
    Exit, LaunchError, Worker, WorkerEvent, WorkerLauncher, WorkerSide, WorkerSpec,
};
use springtide_tests::mutate::Mutator;
use springtide_worker_protocol::{
    ByteRange, Class, Decoder, Device, DeviceKind, Done, Failed, Frame, FromWorker, Limits, Output, Ready,
    Subject, Timings, ToWorker, WorkerKind, encode,
};

use crate::house::{House, Plan};

/// Answers made wrong, in all.
const ANSWERS: u32 = 10_000;
/// Before each right one.
const WRONG_FOR_EACH: usize = 20;
/// Of the answers that can't be read, every so many ends its worker; with all of them the test would only restart workers.
const DEADLY: u32 = 40;

/// Launches workers that answer wrongly while a number of answers lasts, and then rightly.
#[derive(Clone)]
struct Confused {
    mutator: Arc<Mutex<Mutator>>,
    left: Arc<AtomicU32>,
    /// Answers that could not be read.
    unreadable: Arc<AtomicU32>,
    launched: Arc<AtomicU32>,
}

impl WorkerLauncher for Confused {
    fn launch(&self, spec: &WorkerSpec) -> Result<Worker, LaunchError> {
        self.launched.fetch_add(1, Ordering::SeqCst);
        let (worker, side) = Worker::pair(None);
        tokio::spawn(self.clone().serve(side, spec.kind));
        Ok(worker)
    }
}

impl Confused {
    async fn serve(self, side: WorkerSide, kind: WorkerKind) {
        let WorkerSide { mut inbox, outbox, kill } = side;
        // What the agent does with the bytes of a process.
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(&frame(&json_of(&ready(kind)), &[]));
        let talk = async {
            loop {
                while let Some(frame) = decoder.next_frame::<FromWorker>()? {
                    let _ = outbox.send(WorkerEvent::Frame(Box::new(frame))).await;
                }
                let Some(Frame { message, .. }) = inbox.recv().await else { return Ok(()) };
                if let ToWorker::Run(batch) = message {
                    for member in &batch.members {
                        decoder.feed(&self.answers(&member.run));
                    }
                }
            }
        };
        let ended: Result<(), springtide_worker_protocol::FrameError> = tokio::select! {
            () = kill.cancelled() => Ok(()),
            ended = talk => ended,
        };
        let status =
            ended.map_or_else(|error| format!("killed by the agent: {error}"), |()| "killed".to_owned());
        let _ = outbox.send(WorkerEvent::Exited(Exit { status, code: None, stderr_tail: "\0".into() })).await;
    }

    /// Wrong answers to a run, and then the right one.
    fn answers(&self, run: &str) -> Vec<u8> {
        let mut mutator = self.mutator.lock().unwrap();
        let valid = valid(run);
        let mut bytes = Vec::new();
        for _ in 0..WRONG_FOR_EACH {
            if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
            {
                break;
            }
            let header = mutator.message(&valid);
            let mut frame = frame(&header, &[7; 16]);
            let damaged = mutator.below(20) == 0;
            if damaged {
                let at = mutator.below(12);
                frame[at] ^= 1 << mutator.below(8);
            }
            if damaged || serde_json::from_slice::<FromWorker>(&header).is_err() {
                let count = self.unreadable.fetch_add(1, Ordering::SeqCst);
                if !count.is_multiple_of(DEADLY) {
                    continue;
                }
            }
            bytes.extend(frame);
        }
        let done = Done { run: run.to_owned(), outputs: Vec::new(), timings: Timings::default() };
        bytes.extend(encode(&FromWorker::Done(done), &[], &Limits::default()).unwrap());
        bytes
    }
}

fn json_of(message: &FromWorker) -> Vec<u8> {
    let mut header = serde_json::to_value(message).unwrap();
    header["v"] = json!(1);
    header.to_string().into_bytes()
}

fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let lengths = [(header.len() as u32).to_le_bytes().to_vec(), (body.len() as u64).to_le_bytes().to_vec()];
    [lengths.concat(), header.to_vec(), body.to_vec()].concat()
}

fn ready(kind: WorkerKind) -> FromWorker {
    let device =
        Device { kind: DeviceKind::Cpu, index: 0, name: "confused".into(), memory_bytes: Some(1 << 30) };
    FromWorker::Ready(Ready { kind, device, concurrency: 8, pid: 1, versions: [].into() })
}

/// All that a worker may say about a run.
fn valid(run: &str) -> Vec<Value> {
    let body = ByteRange { offset: 4, len: 8 };
    let blob = Output::Blob { media_type: "image/png".into(), seed: Some(7), body };
    let tensors = Output::Tensors { outputs: vec![json!({"name": "speech", "shape": [1], "data": [0.5]})] };
    let timings = Timings { queued_s: 0.1, run_s: 2.5 };
    let failed = |subject| Failed {
        subject,
        class: Class::Transient,
        out_of_memory: true,
        message: "CUDA out of memory".into(),
        pointer: Some("/prompt".into()),
    };
    let messages = [
        ready(WorkerKind::Echo),
        FromWorker::Loaded { model: "shapes@1".into(), load_s: 1.5, memory_bytes: 1 << 29 },
        FromWorker::Progress { run: run.into(), fraction: 0.5, step: 10, steps: 20 },
        FromWorker::Checkpoint { run: run.into(), step: 10, body },
        FromWorker::Done(Done { run: run.into(), outputs: vec![blob, tensors], timings }),
        FromWorker::Failed(failed(Subject::Run(run.into()))),
        FromWorker::Failed(failed(Subject::Model("shapes@1".into()))),
    ];
    messages.iter().map(|message| serde_json::from_slice(&json_of(message)).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_makes_no_sense_is_replaced_and_the_agent_lives() {
    let memory = Memory::new(&Config::default());
    let confused = Confused {
        mutator: Arc::new(Mutex::new(Mutator::seeded(3))),
        left: Arc::new(AtomicU32::new(ANSWERS)),
        unreadable: Arc::default(),
        launched: Arc::default(),
    };
    let brokers = [memory.connect().0, memory.connect().0];
    let house = House::start(Plan::new(brokers, confused.clone())).await;
    let job = house.submit(700, &json!({"sleep_s": 0.01}), 3).await;
    let (_, counts) = house.ended(job).await;
    assert_eq!(counts.succeeded + counts.failed, counts.total, "{counts:?}");
    assert_eq!(confused.left.load(Ordering::SeqCst), 0, "all wrong answers were given");
    let (unreadable, launched) =
        (confused.unreadable.load(Ordering::SeqCst), confused.launched.load(Ordering::SeqCst));
    assert!(launched > unreadable / DEADLY, "{launched} workers for {unreadable} unreadable answers");
    house.assert_sound().await;
    assert_eq!(house.agent.held(), 0);
}
