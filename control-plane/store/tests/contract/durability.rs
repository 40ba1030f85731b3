//! What was answered is on the disk; what was not is not half there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use springtide_core::JobId;
use springtide_store::port::JobFilter;
use springtide_store::{Error, SqliteOptions};

use super::invariants::check;
use super::places::{open_in, options};
use super::world::{World, all, cpu_room};

#[tokio::test]
async fn a_store_that_is_opened_again_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(open_in(directory.path()).await);
    let fence = world.lead().await;
    let id = world.submit(5).await;
    let released = world.release(&fence, &[cpu_room(3)]).await;
    let takers: Vec<_> = released.iter().map(|task| world.taker(task)).collect();
    world.apply(&fence, &[takers[0].started(), takers[0].succeeded(), takers[1].started()]).await;
    let before = (world.store.job(id).await.unwrap(), world.store.in_flight().await.unwrap());
    drop(world);
    let world = World::new(open_in(directory.path()).await);
    let after = (world.store.job(id).await.unwrap(), world.store.in_flight().await.unwrap());
    assert_eq!((before.0.counts, before.0.version, before.1), (after.0.counts, after.0.version, after.1));
    check(&world, &mut BTreeMap::new()).await;
    // The lease is still there, and its token goes on counting.
    world.pass(Duration::from_secs(600));
    assert!(world.lead_as("second").await.token > fence.token);
}

/// Names the directory to a copy of this program that is to be killed.
const CHILD: &str = "SPRINGTIDE_TEST_STORE_CHILD";

/// Submits until it is killed, and says what was accepted. Does nothing unless it was started as such a child.
#[tokio::test]
async fn child() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let world = std::sync::Arc::new(World::new(open_in(Path::new(&directory)).await));
    let clients = (0..16).map(|_| {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move {
            loop {
                println!("accepted {}", world.submit(3).await);
            }
        })
    });
    futures::future::join_all(clients.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "contract::durability::child", "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut accepted = Vec::new();
    for line in lines {
        if let Some((_, id)) = line.split_once("accepted ") {
            accepted.extend(id.parse::<JobId>());
        }
        if accepted.len() == 200 {
            // The rest of the output is read until the pipe closes: it was accepted, too.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(accepted.len() >= 200);
    let world = World::new(open_in(directory.path()).await);
    let versions = world.store.job_versions(&accepted).await.unwrap();
    assert!(versions.iter().all(|version| *version == Some(1)));
    check(&world, &mut BTreeMap::new()).await;
}

#[tokio::test]
async fn submissions_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(open_in(directory.path()).await);
    world.store.take_commits();
    let posts = (0..500).map(|_| world.store.submit(world.job(1)));
    futures::future::try_join_all(posts).await.unwrap();
    let commits = world.store.take_commits();
    let commands: u32 = commits.iter().map(|commit| commit.commands).sum();
    assert_eq!(commands, 500);
    assert!(commits.len() <= 50, "{} commits", commits.len());
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { queue_cap: 2, ..SqliteOptions::default() };
    let store = springtide_store::open_sqlite(&directory.path().join("a.db"), &options).unwrap();
    let world = World::new(store);
    let posts = (0..200).map(|_| world.store.submit(world.job(1)));
    let results = futures::future::join_all(posts).await;
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    let busy = results.iter().filter(|result| matches!(result, Err(Error::Busy))).count();
    assert_eq!(accepted + busy, 200);
    assert!(accepted > 0 && busy > 0);
    let kept = world.store.jobs(&JobFilter::default(), &all()).await.unwrap().items.len();
    assert_eq!(kept, accepted);
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { max_pages: Some(200), ..SqliteOptions::default() };
    let store = springtide_store::open_sqlite(&directory.path().join("a.db"), &options).unwrap();
    let world = World::new(store);
    let mut accepted = Vec::new();
    let mut refused = 0;
    while refused < 3 {
        let jobs: Vec<_> = (0..20).map(|_| world.job(2)).collect();
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        let results = futures::future::join_all(jobs.into_iter().map(|job| world.store.submit(job))).await;
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                Ok(_) => accepted.push(id),
                Err(Error::Full(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(accepted.len() < 10_000, "it never gets full");
    }
    let mut kept: Vec<_> = world
        .store
        .jobs(&JobFilter::default(), &all())
        .await
        .unwrap()
        .items
        .iter()
        .map(|job| job.id)
        .collect();
    kept.sort();
    accepted.sort();
    assert_eq!(kept, accepted);
    check(&world, &mut BTreeMap::new()).await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "this is no database, and too long to be taken for an empty one".repeat(100))
        .unwrap();
    let message =
        async |url: &str, directory: &Path| match springtide_store::open(&options(url), directory).await {
            Ok(_) => panic!("{url} was opened"),
            Err(error) => error.to_string(),
        };
    let inside = format!("sqlite:{}/sub/a.db", file.display());
    let cases = [
        ("mysql://here", "use sqlite:"),
        (inside.as_str(), "choose another data_dir"),
        (&format!("sqlite:{}", file.display()), "not a database"),
        ("postgres://nobody@127.0.0.1:1/none", "127.0.0.1"),
        ("postgres://:::", "store.url"),
    ];
    for (url, words) in cases {
        let said = message(url, directory.path()).await;
        assert!(said.contains(words), "{url}: {said}");
    }
    let unreachable =
        springtide_store::open(&options("postgres://nobody@127.0.0.1:1/none"), directory.path()).await;
    assert!(unreachable.is_err_and(|error| error.is_transient()), "a server may come yet");
}
