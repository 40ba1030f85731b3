//! Ctrl-C and SIGTERM set a flag that every wait looks at, so that what was started is torn down on the way out.

use anyhow::{Context, Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on the two signals no longer end this process by themselves.
pub fn watch() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&REQUESTED)).context("cannot listen for Ctrl-C")?;
    }
    Ok(())
}

/// Whether one of them came.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error once one of them came.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}
