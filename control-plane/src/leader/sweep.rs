//! Removes checkpoints that no task goes on from: those of nodes that died before they could say so, and those whose
//! removal was forgotten in a crash of a control plane. All others are removed when they are overtaken.
//!
//! A checkpoint lies in the object store before it is said to be there; so one that is young is left alone.

use std::sync::Arc;

use anyhow::Result;
use futures::TryStreamExt;
use object_store::path::Path;
use springtide_core::Timestamp;
use tokio::time::sleep;

use crate::app::App;

/// Where agents put checkpoints.
const PREFIX: &str = "checkpoints";
/// Checkpoints that are removed in one go; the rest the next time.
const MOST: usize = 10_000;

/// Sweeps until the term ends.
pub async fn run(app: Arc<App>) {
    loop {
        sleep(app.config.sweep_interval).await;
        match sweep(&app).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removing checkpoints that no task needs"),
            Err(error) => tracing::warn!(%error, "checkpoints that no task needs are looked for later"),
        }
    }
}

async fn sweep(app: &App) -> Result<usize> {
    let now = app.now();
    let mut all = app.parts.objects.list(Some(&Path::from(PREFIX)));
    let mut old = Vec::new();
    while let Some(object) = all.try_next().await? {
        let age = now.since(Timestamp::from_micros(object.last_modified.timestamp_micros()));
        if age > app.config.sweep_interval {
            old.push(object.location.to_string());
        }
        if old.len() == MOST {
            break;
        }
    }
    if old.is_empty() {
        return Ok(0);
    }
    // After the list: what a task has begun to need since is younger.
    let needed = app.store.checkpoints().await?;
    old.retain(|key| !needed.contains(key));
    let count = old.len();
    app.rubbish.discard(old);
    Ok(count)
}
