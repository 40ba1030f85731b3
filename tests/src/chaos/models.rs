//! The models of the load: the one that ships, and a part of it as a TorchScript module of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use springtide_client::Package;
use tokio::time::{Instant, sleep};

use super::house::House;
use super::load::{PICTURES, TORCHSCRIPT};

/// How long a push may take, broken ways included.
const LIMIT: Duration = Duration::from_secs(60);

/// Pushes them.
pub async fn push(house: &House, scratch: &Path) -> Result<()> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models").join(PICTURES);
    let part = scratch.join(TORCHSCRIPT);
    std::fs::create_dir_all(&part)?;
    std::fs::copy(shipped.join("text_encoder.pt"), part.join("model.pt"))
        .context("the text encoder of shapes")?;
    std::fs::write(part.join("model.toml"), manifest())?;
    for dir in [&shipped, &part] {
        let package = Package::read(dir, |_, _| {})?;
        let until = Instant::now() + LIMIT;
        while let Err(error) = house.clients[0].push_model(&package, |_| {}).await {
            if Instant::now() > until {
                return Err(error).with_context(|| format!("{} can't be pushed", dir.display()));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
    std::fs::remove_dir_all(&part)?;
    Ok(())
}

/// Token ids in, one vector for each of the 16 out.
fn manifest() -> String {
    format!(
        "name = \"{TORCHSCRIPT}\"\nversion = \"1\"\nkind = \"torchscript\"\nentry = \"model.pt\"\n\
         [[inputs]]\nname = \"input_ids\"\ndatatype = \"INT64\"\nshape = [-1, 16]\n\
         [[outputs]]\nname = \"states\"\ndatatype = \"FP32\"\nshape = [-1, 16, 96]\n\
         [batching]\nmax = 8\nmax_delay_ms = 2\n[resources]\ndevice = \"any\"\n"
    )
}
