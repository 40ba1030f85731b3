//! A loaded pipeline: text encoder, denoiser, decoder, and the loop over the denoiser.

use std::ops::ControlFlow;
use std::path::Path;

use springtide_core::id::ModelId;
use springtide_core::model::{Batching, Dtype, ImageTask, Sampler as SamplerName, TextToImageSpec};
use tch::{Device, Kind, Tensor};

use super::checkpoint::State;
use super::noise::Noise;
use super::picture::Picture;
use super::prompt::Prompts;
use crate::Failure;
use crate::module::{Module, Precision};
use crate::sampler::{self, Sampler};

/// A text-to-image model on a device.
#[derive(Debug)]
pub struct Pipeline {
    /// Its name and version.
    pub id: ModelId,
    /// Its manifest.
    pub spec: TextToImageSpec,
    /// How many pictures may be made at once.
    pub batching: Batching,
    device: Device,
    prompts: Prompts,
    text_encoder: Module,
    denoiser: Module,
    decoder: Module,
}

/// What pictures that are made together have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Scale of classifier-free guidance; 1: none.
    pub guidance_scale: f64,
    /// The sampler.
    pub sampler: SamplerName,
}

impl From<&ImageTask> for Settings {
    fn from(task: &ImageTask) -> Self {
        let ImageTask { width, height, steps, guidance_scale, sampler, .. } = *task;
        Self { width, height, steps, guidance_scale, sampler }
    }
}

/// What each picture has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// What shall be seen.
    pub prompt: &'a str,
    /// What shall not.
    pub negative_prompt: &'a str,
    /// Where its noise comes from.
    pub seed: u64,
}

/// The state between two steps, of all pictures of a batch.
pub struct Snapshot<'a> {
    /// Steps done.
    pub step: usize,
    latents: &'a Tensor,
    history: Option<&'a Tensor>,
}

impl Snapshot<'_> {
    /// The state of `count` pictures from `first` on, copied to the CPU.
    pub fn state(&self, first: usize, count: usize) -> Result<State, Failure> {
        let part = |tensor: &Tensor| {
            let rows = tensor.f_narrow(0, first as i64, count as i64)?;
            rows.f_contiguous()?.f_to_device(Device::Cpu)
        };
        let failed = |error| Failure::torch("saving a checkpoint", &error);
        Ok(State {
            step: self.step,
            latents: part(self.latents).map_err(failed)?,
            history: self.history.map(part).transpose().map_err(failed)?,
        })
    }
}

impl Pipeline {
    /// Loads the parts and calls each once with the smallest picture, so that a wrong signature shows now.
    pub fn load(
        dir: &Path,
        id: &ModelId,
        spec: &TextToImageSpec,
        batching: Batching,
        device: Device,
    ) -> Result<Self, Failure> {
        let half = spec.sampling.dtype == Dtype::Fp16 && device.is_cuda();
        let precision = if half { Precision::Half } else { Precision::Full };
        let parts = &spec.components;
        let pipeline = Self {
            id: id.clone(),
            spec: spec.clone(),
            batching,
            device,
            prompts: Prompts::load(dir, &parts.tokenizer, spec.tokenizer)?,
            text_encoder: Module::load(dir, &parts.text_encoder, device, precision)?,
            denoiser: Module::load(dir, &parts.denoiser, device, precision)?,
            // Once per picture, not once per step, and the part that overflows in fp16: always in full.
            decoder: Module::load(dir, &parts.decoder, device, Precision::Full)?,
        };
        pipeline.probe()?;
        Ok(pipeline)
    }

    fn probe(&self) -> Result<(), Failure> {
        let (width, height) = (self.spec.image.width.default, self.spec.image.height.default);
        let [channels, rows, columns] = self.latent_shape(width, height);
        let hidden = self.hidden(&[""])?;
        let length = self.prompts.len() as i64;
        if hidden.dim() != 3 || hidden.size()[..2] != [1, length] {
            return Err(wrong_shape(&self.text_encoder, &hidden, &format!("[1, {length}, D]")));
        }
        let latents = Tensor::zeros([1, channels, rows, columns], (Kind::Float, self.device));
        let timestep = Tensor::full([1], 1.0, (Kind::Float, self.device));
        let output = self.denoiser.call_tensors(&[&latents, &timestep, &hidden])?;
        if output.size() != latents.size() {
            return Err(wrong_shape(&self.denoiser, &output, &format!("{:?}", latents.size())));
        }
        let pixels = self.decoder.call_tensors(&[&latents])?;
        let expected = [1, 3, i64::from(height), i64::from(width)];
        if pixels.size() != expected {
            return Err(wrong_shape(&self.decoder, &pixels, &format!("{expected:?}")));
        }
        Ok(())
    }

    /// Memory of the weights.
    pub fn memory_bytes(&self) -> u64 {
        [&self.text_encoder, &self.denoiser, &self.decoder].into_iter().map(Module::memory_bytes).sum()
    }

    /// `[C, h, w]` of the latents of a picture.
    pub fn latent_shape(&self, width: u32, height: u32) -> [i64; 3] {
        let latents = &self.spec.latents;
        let cells = |pixels: u32| i64::from(pixels / latents.downscale.max(1));
        [i64::from(latents.channels), cells(height), cells(width)]
    }

    /// Token ids of a prompt.
    pub fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Failure> {
        self.prompts.encode(prompt)
    }

    /// The text encoder's hidden states, `[B, L, D]`.
    pub fn hidden(&self, prompts: &[&str]) -> Result<Tensor, Failure> {
        let mut ids = Vec::with_capacity(prompts.len() * self.prompts.len());
        for prompt in prompts {
            ids.extend(self.prompts.encode(prompt)?);
        }
        let shape = [prompts.len() as i64, self.prompts.len() as i64];
        let ids = Tensor::from_slice(&ids).view(shape);
        let ids =
            ids.f_to_device(self.device).map_err(|error| Failure::torch(self.text_encoder.file(), &error))?;
        self.text_encoder.call_tensors(&[&ids])
    }

    /// Makes the final latents `[B, C, h, w]` of pictures, from noise or from a checkpoint of these very pictures.
    /// `between` is called after each step; if it breaks, the run is given up.
    pub fn denoise(
        &self,
        settings: &Settings,
        images: &[Image<'_>],
        from: Option<State>,
        between: &mut dyn FnMut(&Snapshot<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor, Failure> {
        let mut sampler = sampler::new(settings.sampler, &self.spec.schedule, settings.steps);
        let shape = self.latent_shape(settings.width, settings.height);
        let seeds: Vec<u64> = images.iter().map(|image| image.seed).collect();
        let draws = if sampler.is_ancestral() { 1 + sampler.steps() } else { 1 };
        let noise = Noise::draw(&seeds, shape, draws)?;
        let guidance = Guidance::new(self, settings.guidance_scale, images)?;
        let (first, mut latents) = self.start(sampler.as_mut(), &noise, from)?;
        let at_step = |error| Failure::torch("a denoising step", &error);
        for step in first..sampler.steps() {
            let output = guidance.predict(self, sampler.as_ref(), step, &latents)?;
            let noise = noise.after(step).map(|noise| noise.f_to_device(self.device));
            let noise = noise.transpose().map_err(at_step)?;
            latents = sampler.step(step, &latents, &output, noise.as_ref()).map_err(at_step)?;
            let snapshot = Snapshot { step: step + 1, latents: &latents, history: sampler.history() };
            if between(&snapshot).is_break() {
                return Err(Failure::Cancelled);
            }
        }
        Ok(latents)
    }

    fn start(
        &self,
        sampler: &mut dyn Sampler,
        noise: &Noise,
        from: Option<State>,
    ) -> Result<(usize, Tensor), Failure> {
        let to_device = |tensor: &Tensor| tensor.f_to_device(self.device);
        let failed = |error| Failure::torch("the first latents", &error);
        if let Some(state) = from {
            let fits = |tensor: &Tensor| tensor.size() == noise.initial().size();
            if fits(&state.latents)
                && state.history.as_ref().is_none_or(fits)
                && state.step <= sampler.steps()
            {
                sampler.restore(state.history.as_ref().map(to_device).transpose().map_err(failed)?);
                return Ok((state.step, to_device(&state.latents).map_err(failed)?));
            }
            eprintln!("a checkpoint has another shape than its task; it starts again");
        }
        let latents = noise.initial().f_mul_scalar(sampler.initial_scale());
        Ok((0, to_device(&latents.map_err(failed)?).map_err(failed)?))
    }

    /// Latents to pictures.
    pub fn decode(&self, latents: &Tensor) -> Result<Vec<Picture>, Failure> {
        let failed = |error| Failure::torch(self.decoder.file(), &error);
        let scaled = latents.f_div_scalar(self.spec.latents.scale).map_err(failed)?;
        let pixels = self.decoder.call_tensors(&[&scaled])?;
        let (_, channels, height, width) = pixels.size4().map_err(failed)?;
        if channels != 3 {
            return Err(wrong_shape(&self.decoder, &pixels, "[B, 3, H, W]"));
        }
        if pixels.isfinite().all().int64_value(&[]) == 0 {
            return Err(Failure::model(format!(
                "{} gave pixels that are no numbers; a model in fp16 may need fp32",
                self.decoder.file()
            )));
        }
        let bytes = ((pixels / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round().to_kind(Kind::Uint8);
        let bytes = bytes.permute([0, 2, 3, 1]).contiguous().to_device(Device::Cpu);
        let pictures = (0..bytes.size()[0]).map(|row| {
            let rgb = Vec::<u8>::try_from(bytes.get(row).flatten(0, -1)).map_err(failed)?;
            Ok(Picture { width: width as u32, height: height as u32, rgb })
        });
        pictures.collect()
    }
}

/// Classifier-free guidance (Ho and Salimans 2022): ε = ε₀ + s·(ε₁ − ε₀), both halves in one call.
struct Guidance {
    hidden: Tensor,
    scale: Option<f64>,
}

impl Guidance {
    fn new(pipeline: &Pipeline, scale: f64, images: &[Image<'_>]) -> Result<Self, Failure> {
        // At a scale of 1 the unguided half would be multiplied by 0.
        let scale = (scale > 1.0).then_some(scale);
        let negative = images.iter().map(|image| image.negative_prompt).filter(|_| scale.is_some());
        let prompts: Vec<&str> = negative.chain(images.iter().map(|image| image.prompt)).collect();
        Ok(Self { hidden: pipeline.hidden(&prompts)?, scale })
    }

    fn predict(
        &self,
        pipeline: &Pipeline,
        sampler: &dyn Sampler,
        step: usize,
        latents: &Tensor,
    ) -> Result<Tensor, Failure> {
        let failed = |error| Failure::torch("guidance", &error);
        let mut input = latents.f_mul_scalar(sampler.input_scale(step)).map_err(failed)?;
        if self.scale.is_some() {
            input = Tensor::f_cat(&[&input, &input], 0).map_err(failed)?;
        }
        let timesteps =
            Tensor::f_full([input.size()[0]], sampler.timestep(step), (Kind::Float, pipeline.device));
        let output = pipeline.denoiser.call_tensors(&[&input, &timesteps.map_err(failed)?, &self.hidden])?;
        let Some(scale) = self.scale else { return Ok(output) };
        let halves = output.f_chunk(2, 0).map_err(failed)?;
        let [plain, guided] = halves.as_slice() else {
            return Err(wrong_shape(&pipeline.denoiser, &output, "two halves"));
        };
        let difference = guided.f_sub(plain).and_then(|difference| difference.f_mul_scalar(scale));
        difference.and_then(|difference| plain.f_add(&difference)).map_err(failed)
    }
}

fn wrong_shape(module: &Module, tensor: &Tensor, expected: &str) -> Failure {
    Failure::model(format!("{} gives a tensor of shape {:?}, not {expected}", module.file(), tensor.size()))
}
