//! Several agents over one directory.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use futures::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutOptions, PutResult,
};
use tokio::sync::Semaphore;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);
/// The directory that [`an_agent_that_hangs`] shares.
const SHARED: &str = "SPRINGTIDE_TEST_SHARED_CACHE";

/// An object store that counts how often a model's weights are read, and holds readers back until they may go on.
#[derive(Debug)]
struct Counted {
    inner: Arc<InMemory>,
    reads: AtomicU32,
    go: Semaphore,
}

impl Counted {
    fn over(bench: &Bench) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(&bench.objects), reads: AtomicU32::new(0), go: Semaphore::new(0) })
    }

    fn reads(&self) -> u32 {
        self.reads.load(Ordering::SeqCst)
    }

    fn let_go(&self) {
        self.go.add_permits(1000);
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counted")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counted {
    async fn get_opts(&self, key: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        if key.as_ref().ends_with("model.pt") && !options.head {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.go.acquire().await.unwrap().forget();
        }
        self.inner.get_opts(key, options).await
    }

    async fn put_opts(
        &self,
        key: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"));
}

#[tokio::test]
async fn a_model_is_fetched_once_for_all_that_share_the_directory() {
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    bench.push("b", b"others").await;
    let counted = Counted::over(&bench);
    let agents: Vec<_> =
        (0..5).map(|_| open_over(Arc::clone(&counted) as _, bench.dir.path(), 1 << 20)).collect();
    let wanted = agents.iter().flat_map(|agent| ["a", "b"].map(|name| (agent.clone(), model(name))));
    let asked: Vec<_> =
        wanted.map(|(agent, model)| tokio::spawn(async move { agent.get(&model).await })).collect();
    eventually("a fetch of each", || counted.reads() == 2).await;
    counted.let_go();
    for lease in asked {
        let lease = tokio::time::timeout(LIMIT, lease).await.expect("a model in time").unwrap().unwrap();
        assert!(lease.dir.join("model.pt").is_file());
    }
    assert_eq!(counted.reads(), 2, "one read of each file, however many wait for it");
}

#[tokio::test]
async fn of_a_fetch_that_fails_another_agent_takes_over() {
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    let counted = Counted::over(&bench);
    let agents = [0, 1].map(|_| {
        let rule = CacheRule { dir: bench.dir.path().to_owned(), limit_bytes: 1 << 20, fetch_timeout: LIMIT };
        let tasks = Tasks::default();
        (ModelCache::open(Arc::clone(&counted) as _, rule, tasks.clone()), tasks)
    });
    let (first, second) = (agents[0].0.clone(), agents[1].0.clone());
    let first = tokio::spawn(async move { first.get(&model("a")).await });
    eventually("the first fetch", || counted.reads() == 1).await;
    let second = tokio::spawn(async move { second.get(&model("a")).await });
    // The agent crashes, its process lives: as in a simulation.
    agents[0].1.cut();
    assert!(first.await.unwrap().is_err());
    eventually("the second fetch", || counted.reads() == 2).await;
    counted.let_go();
    tokio::time::timeout(LIMIT, second).await.expect("a model in time").unwrap().unwrap();
}

#[tokio::test]
async fn what_another_agent_uses_is_not_evicted() {
    let content = vec![7; 3000];
    let bench = bench(9000);
    for name in ["a", "b", "c", "d"] {
        bench.push(name, &content).await;
    }
    let in_use = bench.get("a").await.unwrap();
    let other = open(&bench.objects, bench.dir.path(), 9000);
    for name in ["b", "c", "d"] {
        drop(other.get(&model(name)).await.unwrap());
    }
    assert!(in_use.dir.join("model.pt").is_file(), "the first agent uses it");
    assert_eq!(
        other.list(),
        [model("a"), model("d")],
        "the size is that of the directory, whoever filled it"
    );
    // What nobody uses any more may go, and is fetched again when it is needed.
    drop(in_use);
    lock(&bench.cache.shelf).next_to_go(9000, 1, &BTreeSet::new());
    drop(other.get(&model("b")).await.unwrap());
    assert_eq!(other.list(), [model("b"), model("d")]);
    assert!(bench.get("a").await.unwrap().dir.join("model.pt").is_file());
}

#[tokio::test]
async fn what_a_dead_agent_did_not_finish_is_removed() {
    let bench = bench(1 << 20);
    let partial = |name: &str| bench.dir.path().join(format!(".partial-{name}@1"));
    for name in ["dead", "alive"] {
        std::fs::create_dir_all(partial(name)).unwrap();
    }
    let _claim = Claim::whole(bench.dir.path(), &model("alive")).await.unwrap().unwrap();
    let _again = open(&bench.objects, bench.dir.path(), 1 << 20);
    eventually("the removal of what is left", || !partial("dead").exists()).await;
    assert!(partial("alive").exists(), "somebody is at it");
}

#[tokio::test]
async fn a_killed_fetcher_holds_up_nobody() {
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "models::tests::shared::an_agent_that_hangs", "--ignored"])
        .env(SHARED, bench.dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let partial = bench.dir.path().join(".partial-a@1");
    eventually("a fetch by the other process", || partial.join("model.toml").exists()).await;
    let waiting = bench.cache.clone();
    let waiting = tokio::spawn(async move { waiting.get(&model("a")).await });
    assert!(Claim::shared(bench.dir.path(), &model("a")).await.unwrap().is_none(), "it is the other's");
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    tokio::time::timeout(LIMIT, waiting).await.expect("a model in time").unwrap().unwrap();
    assert_eq!(bench.on_disk(), ["a/1/model.pt", "a/1/model.toml"]);
}

/// A part of the test above: another process that begins a fetch and never ends it.
#[tokio::test]
#[ignore = "started by another test, in a process of its own"]
async fn an_agent_that_hangs() {
    let Some(dir) = std::env::var_os(SHARED) else { return };
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    let cache = open_over(Counted::over(&bench), Path::new(&dir), 1 << 20);
    let _ = cache.get(&model("a")).await;
}
