//! A real disk that is full: a small file system of its own, which grows later. Mounting takes root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use springtide_client::{Error, Package, SubmitOptions};
use springtide_core::JobId;
use springtide_core::api::{JobView, SubmitJob};
use springtide_tests::{Cluster, ClusterOptions};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(1);

/// A file system in memory, unmounted when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and a line that says so, where nothing may be mounted.
    fn mount(size: &str) -> Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            eprintln!("skipped: a small file system can't be mounted here: {}", why.trim());
            return Ok(None);
        }
        Ok(Some(Self(dir)))
    }

    fn grow(&self, size: &str) -> Result<()> {
        let mut command = Command::new("mount");
        let status = command.args(["-o", &format!("remount,size={size}")]).arg(self.0.path()).status()?;
        ensure!(status.success(), "the file system does not grow");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open is ended after this.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn echo(bytes: usize) -> SubmitJob {
    let input = Some(json!({ "output": "x".repeat(bytes) }));
    SubmitJob { model: "echo".into(), input, ..SubmitJob::default() }
}

async fn post(cluster: &Cluster, job: &SubmitJob) -> Result<JobView, Error> {
    cluster.client.submit(job, &SubmitOptions::default()).await
}

/// Whether it is the problem document of a full disk.
fn is_full(error: &Error) -> bool {
    match error {
        Error::Problem(problem) => problem.status == 507 && problem.r#type == "urn:springtide:problem:full",
        _ => false,
    }
}

/// All ids of jobs, oldest first.
async fn jobs(cluster: &Cluster) -> Vec<JobId> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let page =
            cluster.client.jobs(&springtide_client::JobFilter::default(), cursor.as_deref(), 500).await;
        let page = page.expect("the paths that were just tried");
        ids.extend(page.items.iter().map(|job| job.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            ids.sort();
            return ids;
        }
    }
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files
}

/// Waits until there is nothing under a directory of objects: what was refused is removed in the background.
async fn until_empty(dir: &Path) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let files = files_under(dir);
        if files.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("waited {LIMIT:?} for the removal of {files:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `/readyz` gives an answer that `is_so`.
async fn until_ready(
    cluster: &Cluster,
    what: &str,
    is_so: impl Fn(&Result<serde_json::Value, Error>) -> bool,
) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let answer = cluster.client.ready().await;
        if is_so(&answer) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("waited {LIMIT:?} until it is {what}; it says {answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn model(dir: &Path, bytes: usize) -> Result<Package> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("model.pt"), vec![7; bytes])?;
    let manifest = "name = \"large\"\nversion = \"1\"\nkind = \"torchscript\"\nentry = \"model.pt\"\n\
        [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
        [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n";
    std::fs::write(dir.join("model.toml"), manifest)?;
    Ok(Package::read(dir, |_, _| {})?)
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_what_it_has_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount("8m").unwrap() else { return };
    let at = |name: &str| disk.0.path().join(name).display().to_string();
    let settings = vec![
        ("SPRINGTIDE__DATA_DIR".to_owned(), at("data")),
        ("SPRINGTIDE__OBJECTS__URL".to_owned(), format!("file://{}", at("objects"))),
    ];
    let options = ClusterOptions { broker: "memory:".to_owned(), store: "sqlite:".to_owned(), settings };
    let cluster = Cluster::start(options).unwrap();
    let objects = disk.0.path().join("objects");

    // The object store alone has too little room: for an input that goes by reference, and for a model.
    let refused = post(&cluster, &echo(9 << 20)).await.unwrap_err();
    assert!(is_full(&refused), "{refused}");
    until_empty(&objects.join("inputs")).await.unwrap();
    let large = model(&cluster.dir().join("large"), 9 << 20).unwrap();
    let refused = cluster.client.push_model(&large, |_| {}).await.unwrap_err();
    assert!(is_full(&refused), "{refused}");
    until_empty(&objects.join("models").join("large")).await.unwrap();
    assert_eq!(cluster.client.model("large").await.unwrap_err().status(), Some(404));
    assert!(jobs(&cluster).await.is_empty());

    // Jobs fill what is left, until the store has no room either.
    let mut accepted = Vec::new();
    let mut refusals = 0;
    while refusals < 3 {
        match post(&cluster, &echo(40_000)).await {
            Ok(job) => accepted.push(job.id),
            Err(error) if is_full(&error) => refusals += 1,
            Err(other) => panic!("after {} jobs: {other}", accepted.len()),
        }
        assert!(accepted.len() < 1_000, "it never gets full");
    }
    assert!(accepted.len() > 20, "{} jobs are too few to tell anything", accepted.len());
    let says_full = |answer: &Result<_, Error>| match answer {
        Err(error) => error.status() == Some(503) && error.to_string().contains("full"),
        Ok(_) => false,
    };
    until_ready(&cluster, "not ready, for a full disk", says_full).await.unwrap();
    accepted.sort();
    assert_eq!(jobs(&cluster).await, accepted, "reads go on, and nothing is half-written");
    let one = cluster.client.job(accepted[0]).await.unwrap();
    assert_eq!(one.tasks.total, 1);

    // There is room again: without a restart all goes on.
    disk.grow("64m").unwrap();
    until_ready(&cluster, "ready", Result::is_ok).await.unwrap();
    accepted.push(post(&cluster, &echo(40_000)).await.unwrap().id);
    accepted.push(post(&cluster, &echo(1 << 20)).await.unwrap().id);
    cluster.client.push_model(&large, |_| {}).await.unwrap();
    accepted.sort();
    assert_eq!(jobs(&cluster).await, accepted);
    drop(cluster);
}
