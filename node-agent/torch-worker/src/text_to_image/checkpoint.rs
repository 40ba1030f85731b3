//! The state of half-made pictures, as bytes.
//!
//! A safetensors file (<https://github.com/huggingface/safetensors>) with the tensors `latents` and, of multistep
//! samplers, `history` (both f32, `[B, C, h, w]`), and in its metadata the step, the task that it belongs to, and the
//! SHA-256 of its numbers: a picture from a flipped bit would look like any other.
//! Noise is not in it: it is drawn again from the seeds.

use std::collections::HashMap;
use std::fmt::Write;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use sha2::{Digest, Sha256};
use springtide_core::model::ImageTask;
use tch::{Device, Kind, Tensor};

/// Where a run stands after `step` steps. On the CPU.
#[derive(Debug)]
pub struct State {
    /// Steps done.
    pub step: usize,
    /// `[B, C, h, w]`.
    pub latents: Tensor,
    /// What the sampler remembers, of the same shape.
    pub history: Option<Tensor>,
}

/// Bytes are no checkpoint, or one of another task.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCheckpoint {
    /// Not a safetensors file with what is needed in it.
    #[error("it is broken: {0}")]
    Broken(String),
    /// Made for another input.
    #[error("it belongs to another input")]
    OtherTask,
}

const FORM: &str = "springtide-checkpoint-1";

impl State {
    /// As bytes.
    pub fn to_bytes(&self, task: &ImageTask) -> Result<Vec<u8>, UnusableCheckpoint> {
        let broken = |error: &dyn std::fmt::Display| UnusableCheckpoint::Broken(error.to_string());
        let tensors = [("latents", Some(&self.latents)), ("history", self.history.as_ref())];
        let mut parts = Vec::new();
        for (name, tensor) in tensors.into_iter().filter_map(|(name, tensor)| Some((name, tensor?))) {
            let values: Vec<f32> = Vec::try_from(tensor.flatten(0, -1)).map_err(|error| broken(&error))?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
            parts.push((name, shape, bytes));
        }
        let digest = digest(parts.iter().map(|(_, _, bytes)| bytes.as_slice()));
        let views = parts.iter().map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| broken(&error))?;
        let metadata = HashMap::from([
            ("form".to_owned(), FORM.to_owned()),
            ("step".to_owned(), self.step.to_string()),
            ("task".to_owned(), fingerprint(task)),
            ("sha256".to_owned(), digest),
        ]);
        serialize(views, &Some(metadata)).map_err(|error| broken(&error))
    }

    /// From bytes, if they belong to this task.
    pub fn from_bytes(bytes: &[u8], task: &ImageTask) -> Result<Self, UnusableCheckpoint> {
        let broken = |error: &dyn std::fmt::Display| UnusableCheckpoint::Broken(error.to_string());
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
        let facts = metadata.metadata().clone().unwrap_or_default();
        let fact = |name: &str| facts.get(name).map_or("", String::as_str);
        if fact("form") != FORM {
            return Err(UnusableCheckpoint::Broken("it is of another form".into()));
        }
        if fact("task") != fingerprint(task) {
            return Err(UnusableCheckpoint::OtherTask);
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
        let numbers = ["latents", "history"].into_iter().filter_map(|name| file.tensor(name).ok());
        if fact("sha256") != digest(numbers.map(|view| view.data())) {
            return Err(UnusableCheckpoint::Broken("its numbers are not those that were saved".into()));
        }
        let tensor = |name: &str| file.tensor(name).ok().map(|view| read(&view));
        let latents =
            tensor("latents").ok_or_else(|| UnusableCheckpoint::Broken("it has no latents".into()))?;
        let step = fact("step").parse().map_err(|error| broken(&error))?;
        Ok(Self { step, latents, history: tensor("history") })
    }
}

fn read(view: &TensorView<'_>) -> Tensor {
    let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_slice(&values.collect::<Vec<_>>())
        .view(shape.as_slice())
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
}

/// Of latents and history, in this order, in hexadecimal.
fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let sum = parts.fold(Sha256::new(), Sha256::chain_update).finalize();
    sum.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The task in JSON: equal for equal tasks, since its fields have one order.
fn fingerprint(task: &ImageTask) -> String {
    serde_json::to_string(task).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use springtide_core::model::Sampler;

    use super::*;

    fn task() -> ImageTask {
        ImageTask {
            prompt: "a tide".into(),
            negative_prompt: String::new(),
            width: 64,
            height: 64,
            steps: 20,
            guidance_scale: 4.0,
            sampler: Sampler::Dpmpp2m,
            seed: 1,
            images: 2,
        }
    }

    fn state() -> State {
        let latents = Tensor::from_slice(&[0.1_f32, -2.5e-30, f32::MAX, 4.0]).view([2, 2, 1, 1]);
        State { step: 7, history: Some(&latents * 0.5), latents }
    }

    #[test]
    fn comes_back_bit_for_bit() {
        let bytes = state().to_bytes(&task()).unwrap();
        let back = State::from_bytes(&bytes, &task()).unwrap();
        assert_eq!((back.step, &back.latents, &back.history), (7, &state().latents, &state().history));
    }

    #[test]
    fn is_not_taken_for_anothers() {
        let bytes = state().to_bytes(&task()).unwrap();
        let other = ImageTask { seed: 2, ..task() };
        assert!(matches!(State::from_bytes(&bytes, &other), Err(UnusableCheckpoint::OtherTask)));
    }

    #[test]
    fn garbage_is_an_error() {
        let bytes = state().to_bytes(&task()).unwrap();
        for cut in [0, 4, 8, 20, bytes.len() - 1] {
            assert!(State::from_bytes(&bytes[..cut], &task()).is_err(), "cut at {cut}");
        }
        assert!(State::from_bytes(&[0xff; 64], &task()).is_err());
        for at in 1..=32 {
            let mut flipped = bytes.clone();
            let at = flipped.len() - at;
            flipped[at] ^= 1;
            assert!(State::from_bytes(&flipped, &task()).is_err(), "a flipped bit at {at}");
        }
    }
}
