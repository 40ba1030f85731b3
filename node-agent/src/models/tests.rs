use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

mod shared;

struct Bench {
    objects: Arc<InMemory>,
    dir: TempDir,
    cache: ModelCache,
}

fn bench(limit_bytes: u64) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(InMemory::new());
    let cache = open(&objects, dir.path(), limit_bytes);
    Bench { objects, dir, cache }
}

fn open(objects: &Arc<InMemory>, dir: &Path, limit_bytes: u64) -> ModelCache {
    open_over(Arc::clone(objects) as Arc<dyn ObjectStore>, dir, limit_bytes)
}

fn open_over(objects: Arc<dyn ObjectStore>, dir: &Path, limit_bytes: u64) -> ModelCache {
    let rule = CacheRule { dir: dir.to_owned(), limit_bytes, fetch_timeout: Duration::from_secs(10) };
    ModelCache::open(objects, rule, Tasks::default())
}

fn model(name: &str) -> ModelId {
    ModelId::new(name, "1").unwrap()
}

fn manifest(name: &str, content: &[u8]) -> String {
    let hex = format!("{:x}", bytes::Bytes::copy_from_slice(&Sha256::digest(content)));
    format!(
        r#"
        name = "{name}"
        version = "1"
        kind = "torchscript"
        entry = "model.pt"
        [files]
        "model.pt" = "sha256:{hex}"
        [[inputs]]
        name = "x"
        datatype = "FP32"
        shape = [-1, 2]
        [[outputs]]
        name = "y"
        datatype = "FP32"
        shape = [-1, 2]
        "#
    )
}

impl Bench {
    async fn push(&self, name: &str, content: &[u8]) {
        self.put(name, "model.toml", manifest(name, content).as_bytes()).await;
        self.put(name, "model.pt", content).await;
    }

    async fn put(&self, name: &str, file: &str, content: &[u8]) {
        let key = format!("models/{name}/1/{file}").into();
        self.objects.put(&key, PutPayload::from(content.to_vec())).await.unwrap();
    }

    async fn get(&self, name: &str) -> Result<Lease, ModelError> {
        tokio::time::timeout(Duration::from_secs(10), self.cache.get(&model(name)))
            .await
            .expect("a model within 10 s")
    }

    /// All files under the cache, relative to it, but for those that are only locked.
    fn on_disk(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    if path.starts_with(self.dir.path().join(".locks")) {
                        continue;
                    }
                    let relative = path.strip_prefix(self.dir.path()).unwrap();
                    found.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }
}

#[tokio::test]
async fn a_model_is_fetched_once_and_found_again_after_a_restart() {
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    let (one, two) = tokio::join!(bench.get("a"), bench.get("a"));
    assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()), "fetched twice");
    assert_eq!(bench.on_disk(), ["a/1/model.pt", "a/1/model.toml"]);
    // The object store has nothing any more; the disk still has.
    bench.objects.delete(&"models/a/1/model.pt".into()).await.unwrap();
    let again = open(&bench.objects, bench.dir.path(), 1 << 20);
    assert_eq!(again.list(), [model("a")]);
    assert_eq!(again.get(&model("a")).await.unwrap().dir, bench.dir.path().join("a/1"));
}

#[tokio::test]
async fn a_wrong_checksum_is_invalid_names_the_file_and_leaves_nothing() {
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    bench.put("a", "model.pt", b"other weights").await;
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Invalid);
    assert!(error.to_string().contains("model.pt") && error.to_string().contains("checksum"), "{error}");
    assert_eq!(bench.on_disk(), [""; 0]);
    bench.put("a", "model.pt", b"weights").await;
    bench.get("a").await.expect("a failure is not remembered");
}

#[tokio::test]
async fn what_is_not_there_is_invalid() {
    let bench = bench(1 << 20);
    assert_eq!(bench.get("a").await.unwrap_err(), ModelError::Missing(model("a")));
    bench.put("a", "model.toml", manifest("a", b"").as_bytes()).await;
    let error = bench.get("a").await.unwrap_err();
    assert!(matches!(&error, ModelError::Corrupt { file, .. } if file == "model.pt"), "{error}");
    bench.put("a", "model.toml", manifest("b", b"").as_bytes()).await;
    assert!(bench.get("a").await.unwrap_err().to_string().contains("b@1"));
}

#[tokio::test]
async fn a_copy_that_was_damaged_on_the_disk_is_fetched_again() {
    let bench = bench(1 << 20);
    bench.push("a", b"weights").await;
    drop(bench.get("a").await.unwrap());
    let Bench { objects, dir, cache } = bench;
    drop(cache);
    std::fs::write(dir.path().join("a/1/model.pt"), b"rust").unwrap();
    let again = open(&objects, dir.path(), 1 << 20);
    let lease = again.get(&model("a")).await.unwrap();
    assert_eq!(std::fs::read(lease.dir.join("model.pt")).unwrap(), b"weights");
}

#[tokio::test]
async fn the_least_recently_used_model_goes_and_one_in_use_stays() {
    let content = vec![7; 3000];
    let bench = bench(9000);
    for name in ["a", "b", "c"] {
        bench.push(name, &content).await;
    }
    let in_use = bench.get("a").await.unwrap();
    drop(bench.get("b").await.unwrap());
    drop(bench.get("c").await.unwrap());
    assert_eq!(bench.cache.list(), [model("a"), model("c")], "b is older than c, and a is in use");
    drop(in_use);
    bench.push("huge", &vec![7; 10_000]).await;
    let error = bench.get("huge").await.unwrap_err();
    assert!(matches!(error, ModelError::TooLarge { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Evicted, "another node may have a larger cache");
}
