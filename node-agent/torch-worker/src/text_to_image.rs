//! Diffusion pipelines: prompts in, pictures out.
//!
//! The way of a batch: members that ask for the same settings are joined along the batch dimension (`batch`),
//! denoised together step by step (`pipeline`; the noise of each picture is its own, `noise`), decoded, and
//! written as PNG (`picture`). Between two steps a member may be cancelled, and its state may be saved
//! (`checkpoint`).

mod batch;
mod checkpoint;
mod noise;
mod picture;
mod pipeline;
mod prompt;

pub use batch::run;
pub use checkpoint::State;
pub use noise::Noise;
pub use picture::{Picture, parameters};
pub use pipeline::{Image, Pipeline, Settings, Snapshot};
pub use prompt::Prompts;
