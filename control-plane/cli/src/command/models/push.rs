//! Pushes a model directory.

use std::path::Path;

use anyhow::Context;
use springtide_client::{Client, Package};
use springtide_core::api::ModelView;

use crate::meter::Meter;
use crate::when;

/// Checks a model directory and pushes it; says on stderr what it does.
pub async fn push(client: &Client, dir: &Path) -> anyhow::Result<ModelView> {
    let package = read(dir).await?;
    for file in &package.filled_in {
        eprintln!("{file}: checksum filled in");
    }
    if !package.left_out.is_empty() {
        eprintln!("not sent, because model.toml does not name it: {}", package.left_out.join(", "));
    }
    send(client, &package).await
}

/// Sends a model that was read.
pub async fn send(client: &Client, package: &Package) -> anyhow::Result<ModelView> {
    eprintln!("pushing {}, {}", package.manifest.id, when::size(package.archive_bytes()));
    let meter = Meter::new("uploading");
    let view =
        client.push_model(package, move |upload| meter.show(upload.sent_bytes, upload.total_bytes)).await?;
    eprintln!("pushed {}", view.id);
    Ok(view)
}

/// Reads and checks a model directory.
pub async fn read(dir: &Path) -> anyhow::Result<Package> {
    let dir = dir.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let meter = Meter::new("reading");
        Package::read(&dir, |done, total| meter.show(done, total)).map_err(springtide_client::Error::from)
    });
    Ok(reading.await.context("reading the model was cut off")??)
}
