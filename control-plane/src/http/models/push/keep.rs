//! Puts a checked model into the object store, and then its row into the store: a model that has a row is whole.

use std::fs::File;
use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;

use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use springtide_store::Error as StoreError;
use springtide_store::port::{LeaseRequest, ModelRow};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep};

use super::archive::{Archive, MANIFEST, Place};
use crate::app::App;
use crate::http::problem::{Kind, Refusal, Result, is_full};
use crate::models::PUSH_LEASE;

/// How long the lease outlives a replica that dies in the middle of a push.
const LEASE: Duration = Duration::from_secs(30);
/// How often a push that has to wait for another one looks whether that has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What is read from the spooled archive at once.
const READ_BYTES: usize = 1 << 20;

/// A model that is kept.
pub struct Kept {
    /// Its row.
    pub row: ModelRow,
    /// Whether it was not there before.
    pub new: bool,
}

/// Keeps a model. One push at a time, in the whole cluster: two of one version would mix their files.
pub async fn keep(app: &App, spool: File, archive: Archive) -> Result<Kept> {
    let lease = PushLease::take(app).await?;
    let outcome = tokio::select! {
        outcome = store(app, spool, &archive) => outcome,
        // Another may be writing by now: what lies there is left to it.
        lost = lease.hold() => Err(lost),
    };
    lease.give_up().await;
    outcome
}

async fn store(app: &App, spool: File, archive: &Archive) -> Result<Kept> {
    let id = &archive.manifest.id;
    match app.store.model(id.name(), Some(id.version())).await {
        Ok(row) if row.manifest == archive.text => return Ok(Kept { row, new: false }),
        Ok(_) => {
            let detail =
                format!("`{id}` is there with another manifest; a version never changes: choose a new one");
            return Err(Refusal::new(Kind::Conflict, detail));
        }
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let row = ModelRow {
        id: id.clone(),
        manifest: archive.text.clone(),
        size_bytes: archive.size_bytes(),
        pushed_at: app.now(),
    };
    let put = match write_files(app, spool, archive).await {
        Ok(()) => app.store.put_model(row.clone()).await,
        Err(refusal) => {
            remove_files(app, archive).await;
            return Err(refusal);
        }
    };
    match put {
        Ok(()) => {
            app.models.forget_latest(id.name());
            Ok(Kept { row, new: true })
        }
        Err(error) => {
            // Where it may have been committed, the files stay: a model without them would be worse.
            if !matches!(error, StoreError::Unavailable(_) | StoreError::Broken(_)) {
                remove_files(app, archive).await;
            }
            Err(error.into())
        }
    }
}

fn object(archive: &Archive, name: &str) -> Path {
    Path::from(format!("{}/{name}", archive.manifest.id.object_prefix()))
}

/// Writes the files, the manifest last.
async fn write_files(app: &App, spool: File, archive: &Archive) -> Result<()> {
    let mut spool = tokio::fs::File::from_std(spool);
    spool.set_max_buf_size(READ_BYTES);
    for (name, place) in &archive.files {
        spool = write_file(app, spool, object(archive, name), place).await?;
    }
    let payload = PutPayload::from(archive.text.clone().into_bytes());
    app.parts.objects.put(&object(archive, MANIFEST), payload).await?;
    Ok(())
}

async fn write_file(
    app: &App,
    mut spool: tokio::fs::File,
    path: Path,
    place: &Place,
) -> Result<tokio::fs::File> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "a model's file can't be written");
        let kind = if is_full(&error) { Kind::Full } else { Kind::Unavailable };
        Refusal::new(kind, "the model can't be put into the object store; the service's log says more")
    };
    spool.seek(SeekFrom::Start(place.offset)).await.map_err(failed)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, spool.take(place.size_bytes));
    let mut writer = BufWriter::new(Arc::clone(&app.parts.objects), path);
    if let Err(error) = tokio::io::copy_buf(&mut reader, &mut writer).await {
        if let Err(error) = writer.abort().await {
            tracing::debug!(%error, "an upload that failed was not aborted");
        }
        return Err(failed(error));
    }
    // One whose end fails has aborted itself, and would panic if it were told to.
    writer.shutdown().await.map_err(failed)?;
    Ok(reader.into_inner().into_inner())
}

async fn remove_files(app: &App, archive: &Archive) {
    let names = archive.files.keys().map(String::as_str).chain([MANIFEST]);
    for name in names {
        match app.parts.objects.delete(&object(archive, name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%error, name, "a file of a model that was refused is left lying"),
        }
    }
}

/// The right to write models' files.
struct PushLease<'a> {
    app: &'a App,
    holder: String,
}

impl<'a> PushLease<'a> {
    /// Waits for it, as long as a request may take.
    async fn take(app: &'a App) -> Result<Self> {
        let holder = app.new_job_id().to_string().replace("job_", "push-");
        let lease = Self { app, holder };
        let until = Instant::now() + app.config.request_timeout;
        while !lease.ask(LEASE).await? {
            if Instant::now() >= until {
                return Err(Refusal::new(
                    Kind::Busy,
                    "another model is being stored; try again when it is done",
                ));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(lease)
    }

    async fn ask(&self, duration: Duration) -> Result<bool, StoreError> {
        let request = LeaseRequest {
            name: PUSH_LEASE.to_owned(),
            holder: self.holder.clone(),
            duration,
            now: self.app.now(),
        };
        Ok(self.app.store.lease(&request).await?.holder == self.holder)
    }

    /// Renews it until it is lost.
    async fn hold(&self) -> Refusal {
        let mut renewed = Instant::now();
        loop {
            sleep(LEASE / 3).await;
            match self.ask(LEASE).await {
                Ok(true) => renewed = Instant::now(),
                Err(error) if renewed.elapsed() < LEASE * 2 / 3 => {
                    tracing::warn!(%error, "the lease for storing a model can't be renewed");
                }
                Ok(false) | Err(_) => {
                    let detail = "storing the model took longer than its lease could be held; push it again";
                    return Refusal::new(Kind::Unavailable, detail);
                }
            }
        }
    }

    async fn give_up(self) {
        if let Err(error) = self.ask(Duration::ZERO).await {
            tracing::debug!(%error, "a lease was not given up; it runs out by itself");
        }
    }
}
