//! `springtide simulate` as a program: the files that it writes, and what it says of files that can't be used.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions, not in what they call")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use springtide_core::lane::{Device, DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::{TaskEvent, TaskEventKind, TaskInput, Timings};
use springtide_core::{Incarnation, JobId, Priority, RunId, Timestamp};
use springtide_store::Store;
use springtide_store::port::{
    Fence, JobInput, JobSpec, LaneRoom, LeaseRequest, NewJob, ReleaseRequest, ReleasedTask,
};

const HEAD: &str = "gmt_create,predict_status,exec_time_seconds,checkpoint_model_version_id\n";

/// Exit status, standard output and standard error.
fn springtide(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springtide"));
    command.arg("simulate").args(args).current_dir(dir).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Forty requests of 30 s, one a minute.
fn requests() -> String {
    let row = |at: u32| format!("2024-11-15 {:02}:{:02}:00,SUCCEED,30.0,M{}\n", 8 + at / 60, at % 60, at % 2);
    std::iter::once(HEAD.to_owned()).chain((0..40).map(row)).collect()
}

/// The rows of a CSV file, each by its column's name.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| -> BTreeMap<String, String> {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
    };
    lines.map(row).collect()
}

fn time(row: &BTreeMap<String, String>, column: &str) -> Timestamp {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is `{}`", row[column]))
}

#[test]
fn a_trace_becomes_tables_files_and_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("requests.csv"), requests()).unwrap();
    let policies = "predictive:45s,queue_length:1";
    let args =
        ["--trace", "requests.csv", "--pool", "gpu:max=5,price=2", "--policy", policies, "--out", "out"];
    let (code, table, said) = springtide(dir.path(), &args);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("40 tasks, 1200 s of work"), "{said}");
    for policy in ["predictive:45s", "queue_length:1"] {
        assert!(table.lines().any(|line| line.starts_with(policy)), "{table}");
        let own = dir.path().join("out").join(policy.replace(':', "-"));
        let (jobs, nodes) = (rows(&own.join("jobs.csv")), rows(&own.join("nodes.csv")));
        assert_eq!(jobs.len(), 40);
        assert!(!nodes.is_empty() && nodes.len() <= 40, "{} nodes", nodes.len());
        let by_name: BTreeMap<&str, _> = nodes.iter().map(|node| (node["node"].as_str(), node)).collect();
        for job in &jobs {
            let (arrival, start, finish) = (time(job, "arrival"), time(job, "start"), time(job, "finish"));
            assert!(arrival <= start && finish.since(start) >= Duration::from_secs(30), "{job:?}");
            let node = by_name[job["node"].as_str()];
            assert!(time(node, "ready") <= start && finish <= time(node, "end"), "{job:?} on {node:?}");
        }
        for node in &nodes {
            let paid = time(node, "end").since(time(node, "launch")).as_secs_f64();
            assert!((node["paid_s"].parse::<f64>().unwrap() - paid).abs() < 0.01, "{node:?}");
            assert!((node["cost"].parse::<f64>().unwrap() - paid * 2.0 / 3600.0).abs() < 0.01, "{node:?}");
        }
    }
    let picture = std::fs::read_to_string(dir.path().join("out/picture.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("predictive:45s") && picture.contains("queue_length:1"));
    // The same again, to the letter; and as JSON.
    assert_eq!(springtide(dir.path(), &args).1, table);
    let (_, json, _) =
        springtide(dir.path(), &["--trace", "requests.csv", "--policy", "predictive", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["policies"][0]["summary"]["cost_per_work"].as_f64().unwrap() >= 1.0, "{json}");
}

#[test]
fn broken_rows_are_refused_by_file_line_and_field_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    for (bad, field) in [
        ("yesterday,SUCCEED,1.0,M0", "gmt_create"),
        ("2024-11-15 08:00:00,SUCCEED,long,M0", "exec_time_seconds"),
        ("2024-11-15 08:00:00,SUCCEED,-3,M0", "exec_time_seconds"),
        ("2024-11-15 08:00:00", "exec_time_seconds"),
        ("2024-11-15 08:00:00,PENDING,,M0", "PENDING"),
    ] {
        let text = requests().replacen('\n', &format!("\n{bad}\n"), 1);
        std::fs::write(dir.path().join("broken.csv"), text).unwrap();
        let args = ["--trace", "broken.csv", "--policy", "predictive"];
        let (code, _, said) = springtide(dir.path(), &args);
        assert_eq!(code, 2, "{said}");
        for part in ["broken.csv", "line 2", field] {
            assert!(said.contains(part), "`{bad}`: no `{part}` in {said}");
        }
        let (code, _, said) = springtide(dir.path(), &[&args[..], &["--broken-rows", "skip"]].concat());
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("1 rows were left out, the first: line 2") && said.contains("40 tasks"),
            "{said}"
        );
    }
}

#[test]
fn what_is_no_such_file_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("requests.csv"), requests()).unwrap();
    std::fs::write(dir.path().join("boots.csv"), "timestamp_s,value_ms\n1,2000\n2,soon\n").unwrap();
    std::fs::write(dir.path().join("spot.json"), r#"{"metadata": {"gap_seconds": 0}, "data": [1]}"#).unwrap();
    std::fs::write(dir.path().join("other.csv"), "a,b\n1,2\n").unwrap();
    let trace = ["--trace", "requests.csv"];
    for (args, parts) in [
        (&["--trace", "nowhere.csv"][..], &["nowhere.csv", "can't be read"][..]),
        (&["--trace", "other.csv"], &["other.csv", "line 1", "gmt_create"]),
        (&[&trace[..], &["--boot", "file:boots.csv"]].concat(), &["boots.csv", "line 3", "value_ms"]),
        (&[&trace[..], &["--spot", "a=spot.json"]].concat(), &["spot.json", "gap_seconds"]),
        (&[&trace[..], &["--days", "9-9"]].concat(), &["no task in these days"]),
        (&[&trace[..], &["--pool", "gpu:max=1,min=2"]].concat(), &["gpu", "min"]),
        (&[&trace[..], &["--tick", "0s"]].concat(), &["--tick"]),
    ] {
        let (code, _, said) = springtide(dir.path(), args);
        assert_eq!(code, 2, "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?}: no `{part}` in {said}");
        }
    }
}

/// A store in a file, as a control plane leaves it.
struct Installation {
    store: std::sync::Arc<dyn Store>,
    fence: Fence,
    now: Timestamp,
    number: u128,
}

impl Installation {
    async fn new(dir: &Path) -> Self {
        let options = springtide_store::Options {
            url: "sqlite:".to_owned(),
            pool_size: 1,
            queue_cap: 16,
            max_batch: 16,
            timeout: Duration::from_secs(10),
        };
        let store = springtide_store::open(&options, dir).await.unwrap();
        let now = "2026-07-31T08:00:00Z".parse().unwrap();
        let duration = Duration::from_secs(86_400);
        let wish = LeaseRequest { name: "leader".into(), holder: "test".into(), duration, now };
        let token = store.lease(&wish).await.unwrap().token;
        Self { store, fence: Fence { name: "leader".into(), token }, now, number: 0 }
    }

    /// A job is posted, released, run and reported on.
    async fn does(&mut self, tasks: u32, seconds: u64) {
        self.number += 1;
        let spec = JobSpec {
            model: "echo@1".parse().unwrap(),
            kind: ModelKind::Echo,
            priority: Priority::Normal,
            rank: self.now,
            lane: "cpu".parse().unwrap(),
            resources: Resources { device: DeviceRequest::Cpu, gpu_memory_bytes: 0 },
            timeout: Duration::from_secs(300),
            max_retries: 3,
            deadline: None,
            labels: BTreeMap::new(),
            exclusive: None,
            tasks,
            outputs_per_task: 1,
            units: 1.0,
            input: JobInput::Same(TaskInput::Inline(serde_json::json!({}))),
        };
        let job = NewJob {
            id: JobId::new(self.now, self.number),
            accepted_at: self.now,
            owner: String::new(),
            idempotency: None,
            spec,
            predicted_s: 0.0,
            release: None,
        };
        self.store.submit(job).await.unwrap();
        let room =
            LaneRoom { lane: "cpu".parse().unwrap(), device: Device::Cpu, gpu_memory_bytes: 0, limit: 100 };
        let request = ReleaseRequest { now: self.now, lanes: vec![room], most: 100, claims: Vec::new() };
        let released = self.store.release(&self.fence, &request).await.unwrap().tasks;
        assert_eq!(released.len(), tasks as usize);
        let events: Vec<TaskEvent> = released.iter().flat_map(|task| self.told(task, seconds)).collect();
        let moment = Moment { now: self.now, jitter: 0.0 };
        self.store.apply(&self.fence, &events, &RetryPolicy::default(), moment).await.unwrap();
    }

    /// That it started, and that it succeeded.
    fn told(&self, task: &ReleasedTask, seconds: u64) -> [TaskEvent; 2] {
        let run = RunId::new(self.now, u128::from(task.task.index) + 1000 * self.number);
        let event = |kind| TaskEvent {
            task: task.task,
            attempt: task.attempt,
            node: "node-1".parse().unwrap(),
            incarnation: Incarnation::new(self.now, 1),
            at: self.now,
            kind,
        };
        let timings = Timings { load: Duration::ZERO, run: Duration::from_secs(seconds), batch: 1 };
        let started = TaskEventKind::Started { run, lane: task.lane.clone(), device: Device::Cpu };
        [
            event(started),
            event(TaskEventKind::Succeeded { run, device: Device::Cpu, outputs: Vec::new(), timings }),
        ]
    }
}

#[tokio::test]
async fn what_the_store_has_seen_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("springtide.toml"), "data_dir = \".\"\n").unwrap();
    let args = ["--from-store", "--config", "springtide.toml", "--policy", "predictive:45s", "--out", "out"];
    let replay = |more: &'static [&str]| {
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        springtide(dir.path(), &args)
    };
    let mut installation = Installation::new(dir.path()).await;
    let (code, _, said) = replay(&[]);
    assert_eq!((code, said.contains("no task that succeeded")), (2, true), "{said}");
    for at in 0..10 {
        installation.does(1 + at % 3, 20).await;
        installation.now = installation.now + Duration::from_secs(60);
    }
    let (code, _, said) = replay(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("19 tasks, 380 s of work"), "{said}");
    let jobs = rows(&dir.path().join("out/predictive-45s/jobs.csv"));
    assert_eq!(jobs.len(), 19);
    assert_eq!(jobs[0]["arrival"], "2026-07-31T08:00:00.000000Z");
    assert!(jobs.iter().all(|job| job["run_s"].parse::<f64>().unwrap() >= 20.0));
    let (code, _, said) = replay(&["--pool", "gpu:max=3,lane=gpu"]);
    assert_eq!((code, said.contains("no task of lane `gpu`")), (2, true), "{said}");
}
