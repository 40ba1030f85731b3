//! Where the suite runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use springtide_store::{Options, Store};

use super::world::World;

/// Options that are no bottleneck.
pub(crate) fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        pool_size: 4,
        queue_cap: 4096,
        max_batch: 512,
        timeout: Duration::from_secs(30),
    }
}

/// SQLite in memory.
pub(crate) struct Memory;

impl Memory {
    pub(crate) async fn run(case: impl AsyncFnOnce(World)) {
        case(World::new(springtide_store::in_memory().unwrap())).await;
    }
}

/// SQLite in a file.
pub(crate) struct Disk;

impl Disk {
    pub(crate) async fn run(case: impl AsyncFnOnce(World)) {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(directory.path()).await;
        case(World::new(store)).await;
    }
}

/// The store in a directory.
pub(crate) async fn open_in(directory: &Path) -> Arc<dyn Store> {
    springtide_store::open(&options("sqlite:"), directory).await.unwrap()
}

/// PostgreSQL, in a schema that is dropped afterwards.
pub(crate) struct Postgres;

/// The variable that names the server.
const VARIABLE: &str = "SPRINGTIDE_TEST_POSTGRES_URL";

impl Postgres {
    pub(crate) async fn run(case: impl AsyncFnOnce(World)) {
        let Some(schema) = Schema::create().await else { return };
        let store = springtide_store::open(&options(&schema.url), Path::new(".")).await.unwrap();
        case(World::new(store)).await;
        schema.drop().await;
    }
}

/// A schema of a test.
pub(crate) struct Schema {
    /// Leads into the schema.
    pub(crate) url: String,
    name: String,
    client: tokio_postgres::Client,
}

impl Schema {
    /// `None`: no server is named, and the test is skipped.
    pub(crate) async fn create() -> Option<Self> {
        let Ok(server) = std::env::var(VARIABLE) else {
            println!("skipped: {VARIABLE} names no server");
            return None;
        };
        let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let unique = ulid::Ulid::generate().to_string().to_lowercase();
        let name = format!("test_{unique}");
        client.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options=-c%20search_path%3D{name}");
        Some(Self { url, name, client })
    }

    /// Removes it with all that is in it.
    pub(crate) async fn drop(self) {
        self.client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.name)).await.unwrap();
    }
}
