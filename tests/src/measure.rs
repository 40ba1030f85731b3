//! Small measurements that figures are set against.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// A quantile of durations, by nearest rank.
pub fn quantile(durations: &mut [Duration], q: f64) -> Duration {
    durations.sort_unstable();
    let rank = (q * durations.len() as f64).ceil() as usize;
    durations.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Median time of making 4 KiB durable on the disk under a directory.
pub fn fdatasync(dir: &Path) -> Result<Duration> {
    let path = dir.join("fdatasync-probe");
    let mut file = std::fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        file.write_all(&[7; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(quantile(&mut times, 0.5))
}
