//! Pictures through the whole house: the same however a job is split.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use springtide_client::SubmitOptions;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::{Whole, wait};

/// The pixels of each picture of a job, by seed.
async fn pictures(whole: &Whole, images_per_task: u32) -> Result<Vec<(Option<u64>, Vec<u8>)>> {
    let input = json!({
        "prompt": "a red circle on a blue ground", "seed": 100, "images": 24, "images_per_task": images_per_task, "steps": 6,
    });
    let job = SubmitJob { model: "shapes".into(), input: Some(input), ..SubmitJob::default() };
    let posted = whole.client.submit(&job, &SubmitOptions::default()).await?;
    ensure!(posted.tasks.total == 24 / images_per_task, "split into {} tasks", posted.tasks.total);
    let done = wait::for_end(&whole.client, posted.id, Duration::from_mins(3)).await?;
    ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 24, "{done:?}");
    let mut pictures = Vec::new();
    for output in &done.outputs {
        let path = whole.dir().join(format!("{images_per_task}-{}.png", output.index));
        whole.client.download_to(output, &path).await?;
        let file = std::io::BufReader::new(std::fs::File::open(&path)?);
        let mut reader = png::Decoder::new(file).read_info()?;
        let mut pixels = vec![0; reader.output_buffer_size().context("a picture without a size")?];
        reader.next_frame(&mut pixels)?;
        pictures.push((output.seed, pixels));
    }
    Ok(pictures)
}

#[tokio::test]
async fn a_job_in_six_tasks_equals_the_job_in_one() {
    let whole = Whole::start(2).unwrap();
    whole.push(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/shapes")).await.unwrap();
    let split = pictures(&whole, 4).await.unwrap();
    let one = pictures(&whole, 24).await.unwrap();
    for ((seed, split), (same_seed, one)) in split.iter().zip(&one) {
        assert_eq!(seed, same_seed);
        let worst = split.iter().zip(one).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.is_some_and(|worst| worst <= 1), "seed {seed:?} differs by {worst:?} of 255");
    }
    let first = &one[0].1;
    assert!(one[1..].iter().any(|(_, other)| other != first), "every seed gave the same picture");
}
