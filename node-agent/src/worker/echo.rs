//! What an echo worker does: sleeps, takes memory, fails, crashes on request, and gives its input's `output` back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use springtide_core::model::{EchoCrash, EchoFailure, EchoInput};
use springtide_worker_protocol::{
    Batch, Class, Device, DeviceKind, Done, Failed, Frame, FromWorker, Member, Output, Ready, Subject,
    Timings, ToWorker, WorkerKind,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

/// Runs at once. More than any node has slots.
const CONCURRENCY: u32 = 4096;
/// How often a run that sleeps says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What a crash does: ends this process or its agent; in the agent's own process, imitates that.
pub(super) type Crash = Arc<dyn Fn(EchoCrash) + Send + Sync>;

/// Serves until its input ends or it is told to shut down.
pub(super) async fn serve(
    mut frames: mpsc::Receiver<Frame<ToWorker>>,
    answers: mpsc::Sender<FromWorker>,
    crash: Crash,
) {
    if answers.send(FromWorker::Ready(ready())).await.is_err() {
        return;
    }
    let mut runs = JoinSet::new();
    let mut stops: BTreeMap<String, CancellationToken> = BTreeMap::new();
    loop {
        let message = tokio::select! {
            biased;
            Some(ended) = runs.join_next() => {
                if let Ok(run) = ended {
                    stops.remove::<String>(&run);
                }
                continue;
            }
            frame = frames.recv() => frame.map(|frame| frame.message),
        };
        match message {
            Some(ToWorker::Shutdown) => break,
            // The agent is gone, and nobody waits for what is under way.
            None => return runs.shutdown().await,
            Some(ToWorker::Load { model, .. }) => {
                let loaded = FromWorker::Loaded { model, load_s: 0.0, memory_bytes: 0 };
                let _ = answers.send(loaded).await;
            }
            Some(ToWorker::Unload { .. }) => {}
            Some(ToWorker::Cancel { run, .. }) => {
                if let Some(stop) = stops.get(&run) {
                    stop.cancel();
                }
            }
            Some(ToWorker::Run(Batch { members, .. })) => {
                for member in members {
                    // What asks for nothing is answered at once: benchmarks measure the queue, not the scheduler.
                    if let Some(done) = at_once(&member) {
                        let _ = answers.send(done).await;
                        continue;
                    }
                    let stop = CancellationToken::new();
                    stops.insert(member.run.clone(), stop.clone());
                    runs.spawn(run(member, stop, answers.clone(), Arc::clone(&crash)));
                }
            }
        }
    }
    runs.join_all().await;
}

fn ready() -> Ready {
    Ready {
        kind: WorkerKind::Echo,
        device: Device { kind: DeviceKind::Cpu, index: 0, name: "echo".into(), memory_bytes: None },
        concurrency: CONCURRENCY,
        pid: std::process::id(),
        versions: BTreeMap::from([("worker".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
    }
}

fn at_once(member: &Member) -> Option<FromWorker> {
    let input = EchoInput::parse(&member.input).ok()?;
    let nothing =
        input.sleep_s == 0.0 && input.fail.is_none() && input.crash.is_none() && input.alloc_bytes.is_none();
    nothing.then(|| done(member.run.clone(), input.output, Duration::ZERO))
}

async fn run(
    member: Member,
    stop: CancellationToken,
    answers: mpsc::Sender<FromWorker>,
    crash: Crash,
) -> String {
    let Member { run, input, .. } = member;
    let failed = |class, message: String, pointer| {
        let subject = Subject::Run(run.clone());
        FromWorker::Failed(Failed { subject, class, out_of_memory: false, message, pointer })
    };
    let input = match EchoInput::parse(&input) {
        Ok(input) => input,
        Err(fault) => {
            let pointer = Some(fault.pointer.to_string());
            let _ = answers.send(failed(Class::Invalid, fault.message, pointer)).await;
            return run;
        }
    };
    let started = Instant::now();
    let memory = match take_memory(input.alloc_bytes.unwrap_or(0)).await {
        Ok(memory) => memory,
        Err(message) => {
            let _ = answers.send(failed(Class::Transient, message, None)).await;
            return run;
        }
    };
    let slept = tokio::select! {
        biased;
        () = sleep(&run, input.sleep_s, &answers) => true,
        () = stop.cancelled() => false,
    };
    drop(memory);
    let answer = match (slept, input.crash, input.fail) {
        (false, ..) => failed(Class::Evicted, "cancelled".to_owned(), None),
        (true, Some(what), _) => {
            crash(what);
            // In the agent's own process the end comes from outside.
            return std::future::pending().await;
        }
        (true, None, Some(EchoFailure::Invalid)) => {
            failed(Class::Invalid, "asked to fail as invalid".to_owned(), Some("/fail".to_owned()))
        }
        (true, None, Some(EchoFailure::Transient)) => {
            failed(Class::Transient, "asked to fail as transient".to_owned(), None)
        }
        (true, None, None) => done(run.clone(), input.output, started.elapsed()),
    };
    let _ = answers.send(answer).await;
    run
}

fn done(run: String, output: Value, took: Duration) -> FromWorker {
    let outputs = match output {
        Value::Null => Vec::new(),
        output => vec![Output::Tensors { outputs: vec![output] }],
    };
    FromWorker::Done(Done { run, outputs, timings: Timings { queued_s: 0.0, run_s: took.as_secs_f64() } })
}

async fn sleep(run: &str, seconds: f64, answers: &mpsc::Sender<FromWorker>) {
    // The input was checked: finite and at most a day.
    let whole = Duration::from_secs_f64(seconds);
    let started = Instant::now();
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(started + whole) => return,
            _ = ticks.tick() => {
                let fraction = started.elapsed().as_secs_f64() / seconds;
                let run = run.to_owned();
                let steps = (seconds * 1e3) as u32;
                let step = (fraction * f64::from(steps)) as u32;
                let _ = answers.send(FromWorker::Progress { run, fraction, step, steps }).await;
            }
        }
    }
}

/// Takes memory and writes to every page of it, so that it really is taken.
async fn take_memory(bytes: u64) -> Result<Vec<u8>, String> {
    const PIECE: usize = 1 << 20;
    let mut memory = Vec::new();
    let bytes =
        usize::try_from(bytes).map_err(|_| format!("{bytes} bytes are more than can be addressed"))?;
    memory.try_reserve_exact(bytes).map_err(|_| format!("out of memory: {bytes} bytes were refused"))?;
    while memory.len() < bytes {
        let next = (memory.len() + PIECE).min(bytes);
        memory.resize(next, 1);
        tokio::task::yield_now().await;
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Answers to one run, without progress; `cancel_after` cancels it.
    async fn answer(input: Value, cancel_after: Option<Duration>) -> FromWorker {
        let (to, frames) = mpsc::channel(8);
        let (answers, mut from) = mpsc::channel(8);
        let served = tokio::spawn(serve(frames, answers, Arc::new(|_| {})));
        assert!(matches!(from.recv().await, Some(FromWorker::Ready(_))));
        let member = Member::new("t", "r", input);
        let send = |message| Frame { message, body: Vec::new() };
        let batch = Batch { batch: 1, model: "echo@1".into(), members: vec![member] };
        to.send(send(ToWorker::Run(batch))).await.unwrap();
        if let Some(after) = cancel_after {
            tokio::time::sleep(after).await;
            to.send(send(ToWorker::Cancel { run: "r".into(), checkpoint: false })).await.unwrap();
        }
        let answer = loop {
            match from.recv().await.expect("an answer") {
                FromWorker::Progress { fraction, .. } => assert!((0.0..=1.0).contains(&fraction)),
                answer => break answer,
            }
        };
        drop(to);
        served.await.unwrap();
        answer
    }

    fn class(answer: FromWorker) -> Class {
        match answer {
            FromWorker::Failed(failed) => failed.class,
            other => panic!("{other:?} is no failure"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_what_the_input_says() {
        let FromWorker::Done(done) = answer(json!({"sleep_s": 2.5, "output": {"a": 1}}), None).await else {
            panic!("not done")
        };
        assert_eq!(done.outputs, [Output::Tensors { outputs: vec![json!({"a": 1})] }]);
        assert!((done.timings.run_s - 2.5).abs() < 0.01, "{}", done.timings.run_s);
        assert_eq!(class(answer(json!({"fail": "invalid"}), None).await), Class::Invalid);
        assert_eq!(class(answer(json!({"fail": "transient"}), None).await), Class::Transient);
        assert_eq!(class(answer(json!({"sleep_s": -1}), None).await), Class::Invalid);
        assert_eq!(class(answer(json!({"alloc_bytes": u64::MAX}), None).await), Class::Transient);
        assert!(matches!(answer(json!({"alloc_bytes": 5_000_000}), None).await, FromWorker::Done(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_wakes_a_sleeper() {
        let started = Instant::now();
        let cancelled = answer(json!({"sleep_s": 3600}), Some(Duration::from_secs(1))).await;
        assert_eq!(class(cancelled), Class::Evicted);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
