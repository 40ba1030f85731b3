//! Saves a job's outputs: a picture as `JOB-INDEX.png`, tensors and other values as `JOB-INDEX.json`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use springtide_client::Client;
use springtide_core::JobId;
use springtide_core::api::OutputView;

/// Downloads at once.
const AT_ONCE: usize = 4;

/// An output that is a file now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// Its position in the job.
    pub index: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// Makes the directory; done before a job is posted, so that a job is not made for nothing.
pub fn prepare(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)
        .with_context(|| format!("can't make the directory {}; choose another with --out", dir.display()))
}

/// Saves all outputs that a job has, in order.
pub async fn outputs(client: &Client, job: JobId, dir: &Path) -> anyhow::Result<Vec<Saved>> {
    prepare(dir)?;
    let mut saved = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.outputs(job, cursor.as_deref()).await?;
        let files = futures::stream::iter(&page.items)
            .map(|output| one(client, job, output, dir))
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        saved.extend(files.into_iter().flatten());
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(saved),
        }
    }
}

async fn one(client: &Client, job: JobId, output: &OutputView, dir: &Path) -> anyhow::Result<Option<Saved>> {
    let path = dir.join(format!("{job}-{}.{}", output.index, extension(output)));
    if output.url.is_some() {
        client.download_to(output, &path).await?;
    } else if let Some(value) = &output.outputs {
        let text = serde_json::to_vec_pretty(value)?;
        tokio::fs::write(&path, text).await.with_context(|| format!("can't write {}", path.display()))?;
    } else {
        return Ok(None);
    }
    Ok(Some(Saved { index: output.index, path }))
}

fn extension(output: &OutputView) -> &'static str {
    match output.media_type.as_deref() {
        Some("image/png") => "png",
        Some("image/jpeg") => "jpg",
        Some("text/plain") => "txt",
        Some("application/json") => "json",
        None if output.url.is_none() => "json",
        _ => "bin",
    }
}
