//! Several control planes over one PostgreSQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use springtide_core::Timestamp;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::ReturnReason;
use springtide_store::port::{Idempotency, JobFilter, ReleaseRequest};
use springtide_store::{Error, Store};

use super::invariants::check;
use super::places::{Schema, options};
use super::world::{World, all, cpu_room};

async fn replica(schema: &Schema) -> Arc<dyn Store> {
    springtide_store::open(&options(&schema.url), Path::new(".")).await.unwrap()
}

#[tokio::test]
async fn that_start_together_migrate_once() {
    let Some(schema) = Schema::create().await else { return };
    let stores = futures::future::join_all((0..4).map(|_| replica(&schema))).await;
    stores[3].check_writable().await.unwrap();
    drop(stores);
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_work_at_once_keep_the_books() {
    let Some(schema) = Schema::create().await else { return };
    let world = Arc::new(World::new(replica(&schema).await));
    let fence = world.lead().await;
    let others = [replica(&schema).await, replica(&schema).await];
    // Two that accept and cancel, with keys in common.
    let guests = others.into_iter().map(|store| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for round in 0..30 {
                let posts = (0..8).map(|at| {
                    let mut job = world.job(4);
                    let key = format!("{round}-{at}");
                    job.owner = "one".into();
                    job.idempotency = Some(Idempotency { key, body_sha256: "a".into() });
                    store.submit(job)
                });
                let submitted = futures::future::try_join_all(posts).await.unwrap();
                store.cancel(submitted[round % 8].job, world.now()).await.unwrap();
            }
        })
    });
    let guests: Vec<_> = guests.collect();
    // One that leads.
    let leader = {
        let (world, fence) = (Arc::clone(&world), fence.clone());
        tokio::spawn(async move {
            for round in 0..60 {
                let released = world.release(&fence, &[cpu_room(40)]).await;
                let events: Vec<_> = released
                    .iter()
                    .map(|task| world.taker(task))
                    .flat_map(|taker| {
                        let end = if round % 3 == 0 {
                            taker.returned(true, ReturnReason::Drained)
                        } else {
                            taker.succeeded()
                        };
                        [taker.started(), end]
                    })
                    .collect();
                world.apply(&fence, &events).await;
            }
        })
    };
    for guest in guests {
        guest.await.unwrap();
    }
    leader.await.unwrap();
    check(&world, &mut BTreeMap::new()).await;
    let jobs = world.store.jobs(&JobFilter::default(), &all()).await.unwrap().items;
    assert_eq!(jobs.len(), 240, "each key made one job");
    drop(world);
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_fences_its_predecessor() {
    let Some(schema) = Schema::create().await else { return };
    let (first, second) = (World::new(replica(&schema).await), World::new(replica(&schema).await));
    let old = first.lead().await;
    first.submit(50).await;
    second.pass(Duration::from_secs(3600));
    let new = second.lead_as("second").await;
    let request =
        ReleaseRequest { now: first.now(), lanes: vec![cpu_room(10)], most: 10, claims: Vec::new() };
    assert!(matches!(first.store.release(&old, &request).await, Err(Error::Fenced { .. })));
    assert_eq!(second.store.release(&new, &request).await.unwrap().tasks.len(), 10);
    drop((first, second));
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_leaves_nothing_open() {
    let Some(schema) = Schema::create().await else { return };
    let world = World::new(replica(&schema).await);
    let fence = world.lead().await;
    let policy = RetryPolicy::default();
    for at in 0..100 {
        let id = world.submit(3).await;
        world.release(&fence, &[cpu_room(1000)]).await;
        let patience = Duration::from_micros(at * 30);
        let moment = Moment { now: Timestamp::from_micros(1), jitter: 0.0 };
        drop(tokio::time::timeout(patience, world.store.cancel(id, world.now())).await);
        drop(tokio::time::timeout(patience, world.store.apply(&fence, &[], &policy, moment)).await);
    }
    check(&world, &mut BTreeMap::new()).await;
    drop(world);
    schema.drop().await;
}
