//! Opens the store that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use springtide_process::config::Layers;
use springtide_process::config::sections::Store as Section;
use springtide_store::{Options, Store};

use crate::exit::Usage;

/// Between two tries to reach a store that is not there yet.
const PAUSE: Duration = Duration::from_secs(2);

/// Opens it, or says why not.
pub async fn open(layers: &Layers) -> Result<Arc<dyn Store>> {
    let (options, shown) = options(layers)?;
    springtide_store::open(&options, &layers.data_dir())
        .await
        .with_context(|| format!("the store ({shown}) can't be opened"))
}

/// The same, but waits for a server that is not there yet, and says so.
pub async fn open_patiently(layers: &Layers) -> Result<Arc<dyn Store>> {
    let (options, shown) = options(layers)?;
    let mut said = false;
    loop {
        match springtide_store::open(&options, &layers.data_dir()).await {
            Ok(store) => return Ok(store),
            Err(error) if error.is_transient() => {
                if !said {
                    eprintln!("waiting for the store ({shown}): {error}");
                    said = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error).with_context(|| format!("the store ({shown}) can't be opened")),
        }
    }
}

fn options(layers: &Layers) -> Result<(Options, String)> {
    let section: Section = layers.section("store").map_err(Usage::from)?;
    let options = Options {
        url: section.url.reveal().to_owned(),
        pool_size: section.pool_size,
        queue_cap: section.queue_cap,
        max_batch: section.max_batch,
        timeout: section.timeout,
    };
    Ok((options, section.url.to_string()))
}
