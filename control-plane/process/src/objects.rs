//! Opens the object store of the `[objects]` section: a local directory, S3 or one like it, or memory.

use crate::config::sections::Objects;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;

/// Why no object store could be opened. Each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL has a scheme that is not served here, or is not understood.
    #[error(
        "objects.url {url:?} is not understood ({reason}); use file:, file:///PATH, s3://BUCKET/PREFIX or memory:"
    )]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory cannot be made or written.
    #[error(
        "the object directory {path} cannot be written; make it writable for this user, or set objects.url"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client for S3 refused its settings.
    #[error(
        "the object store {url} cannot be used; look at objects.endpoint, objects.region and the credentials"
    )]
    S3 {
        /// As configured.
        url: String,
        /// Why.
        source: object_store::Error,
    },
}

/// Opens the store. `data_dir` is where `file:` without a path lies. For S3 nothing is sent yet.
pub fn open(section: &Objects, data_dir: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    match section.url.as_str() {
        "memory:" => Ok(Arc::new(InMemory::new())),
        "file:" => directory(&data_dir.join("objects")),
        url if url.starts_with('/') || url.starts_with('.') => directory(Path::new(url)),
        url => by_scheme(section, url),
    }
}

fn by_scheme(section: &Objects, url: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let refuse = |reason: String| Error::Url { url: url.to_owned(), reason };
    if let Some(relative) = url.strip_prefix("file:").filter(|rest| !rest.starts_with("//")) {
        return directory(Path::new(relative));
    }
    let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
    match parsed.scheme() {
        "file" => {
            let path = parsed.to_file_path().map_err(|()| refuse("it names another host".to_owned()))?;
            directory(&path)
        }
        "s3" => s3(section, &parsed),
        scheme => Err(refuse(format!("scheme {scheme}"))),
    }
}

/// Objects as files. A write is on the disk before it is acknowledged: what a job says it has made has to be there
/// after a power cut too.
fn directory(path: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    let failed = |source| Error::Directory { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(failed)?;
    let probe = path.join(format!(".springtide-probe-{}", std::process::id()));
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|e| failed(std::io::Error::other(e)))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Arc::new(store))
}

fn s3(section: &Objects, url: &Url) -> Result<Arc<dyn ObjectStore>, Error> {
    let Some(bucket) = url.host_str() else {
        return Err(Error::Url { url: section.url.clone(), reason: "it names no bucket".to_owned() });
    };
    let client = ClientOptions::new()
        .with_allow_http(section.endpoint.starts_with("http://"))
        .with_timeout_disabled()
        .with_read_timeout(section.timeout)
        .with_connect_timeout(section.timeout);
    let retry = RetryConfig { max_retries: section.max_retries, ..RetryConfig::default() };
    // What the section leaves empty comes from where every AWS tool looks: AWS_* variables, then the machine's role.
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client).with_retry(retry);
    if !section.endpoint.is_empty() {
        builder = builder.with_endpoint(&section.endpoint);
    }
    if !section.region.is_empty() {
        builder = builder.with_region(&section.region);
    }
    if !section.access_key_id.is_empty() {
        builder = builder
            .with_access_key_id(section.access_key_id.reveal())
            .with_secret_access_key(section.secret_access_key.reveal());
    }
    if !section.session_token.is_empty() {
        builder = builder.with_token(section.session_token.reveal());
    }
    let store = builder.build().map_err(|source| Error::S3 { url: section.url.clone(), source })?;
    let prefix = url.path().trim_matches('/');
    if prefix.is_empty() { Ok(Arc::new(store)) } else { Ok(Arc::new(PrefixStore::new(store, prefix))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Override, Sources};
    use object_store::{ObjectStoreExt, PutPayload};

    fn section(overrides: &[(&str, &str)]) -> Objects {
        let overrides = overrides.iter().map(|(key, value)| Override::new("test", *key, *value)).collect();
        Layers::load(&Sources { overrides, ..Sources::default() }).unwrap().section("objects").unwrap()
    }

    #[tokio::test]
    async fn every_way_to_name_a_directory_makes_it_and_writes_there() {
        let root = tempfile::tempdir().unwrap();
        let named = format!("file://{}/named", root.path().display());
        let plain = format!("{}/plain", root.path().display());
        for (url, directory) in [("file:", "objects"), (&named, "named"), (&plain, "plain")] {
            let store = open(&section(&[("objects.url", url)]), root.path()).unwrap();
            store.put(&"a/b".into(), PutPayload::from_static(b"x")).await.unwrap();
            assert!(root.path().join(directory).join("a/b").is_file(), "{url}");
        }
    }

    #[tokio::test]
    async fn memory_is_fresh_each_time() {
        let section = section(&[("objects.url", "memory:")]);
        let store = open(&section, Path::new(".")).unwrap();
        store.put(&"a".into(), PutPayload::from_static(b"x")).await.unwrap();
        assert!(open(&section, Path::new(".")).unwrap().head(&"a".into()).await.is_err());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = open(&section(&[("objects.url", "file:")]), file.path()).err().unwrap();
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
        assert!(error.to_string().contains("set objects.url"), "{error}");
    }

    #[test]
    fn s3_is_built_from_the_section() {
        let shown = |url| {
            let section = section(&[
                ("objects.url", url),
                ("objects.endpoint", "http://127.0.0.1:9000"),
                ("objects.region", "eu-central-1"),
                ("objects.access_key_id", "id"),
                ("objects.secret_access_key", "hunter2"),
            ]);
            open(&section, Path::new(".")).unwrap().to_string()
        };
        assert_eq!(shown("s3://bucket"), "AmazonS3(bucket)");
        assert!(shown("s3://bucket/some/prefix/").contains("(some/prefix)"));
    }

    #[test]
    fn an_unknown_scheme_is_refused_with_what_there_is() {
        for url in ["ftp://host/x", "objects", "s3:bucket"] {
            let error = open(&section(&[("objects.url", url)]), Path::new(".")).err().unwrap().to_string();
            assert!(error.contains(url) && error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
    }
}
