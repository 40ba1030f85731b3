//! A loaded model of any kind.

use std::path::Path;

use springtide_core::model::{Manifest, Spec};

use crate::Failure;
use crate::text_to_image::Pipeline;
use crate::torchscript::ScriptModel;

/// A model on a device.
#[derive(Debug)]
pub enum Model {
    /// Tensors in, tensors out.
    TorchScript(ScriptModel),
    /// A prompt in, pictures out.
    TextToImage(Box<Pipeline>),
}

impl Model {
    /// Loads a model directory and tries it once, so that what is wrong with it shows before a task meets it.
    pub fn load(dir: &Path, device: tch::Device) -> Result<Self, Failure> {
        let path = dir.join("model.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::model(format!("{} cannot be read: {error}", path.display())))?;
        let manifest = Manifest::parse(&text).map_err(|error| Failure::model(error.to_string()))?;
        match &manifest.spec {
            Spec::TorchScript(spec) => {
                ScriptModel::load(dir, spec, manifest.batching, device).map(Self::TorchScript)
            }
            Spec::TextToImage(spec) => {
                let pipeline = Pipeline::load(dir, &manifest.id, spec, manifest.batching, device)?;
                Ok(Self::TextToImage(Box::new(pipeline)))
            }
            Spec::Echo => Err(Failure::model("`echo` is run by the echo worker")),
        }
    }

    /// Memory of its weights.
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::TorchScript(model) => model.memory_bytes(),
            Self::TextToImage(pipeline) => pipeline.memory_bytes(),
        }
    }
}
