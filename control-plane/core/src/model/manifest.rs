//! `model.toml`: what a model is, and the limits of what it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::text_to_image::Sampler;
use super::torchscript::{InputSpec, OutputSpec, Signature};
use crate::id::{InvalidId, ModelId};
use crate::lane::Resources;

/// A manifest, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Name and version.
    pub id: ModelId,
    /// The files beside `model.toml`, with their checksums (`sha256:` and hexadecimal digits).
    pub files: BTreeMap<String, String>,
    /// How tasks of it may run together.
    pub batching: Batching,
    /// What its tasks need, unless a job says otherwise.
    pub resources: Resources,
    /// What depends on its kind.
    pub spec: Spec,
}

/// What depends on a model's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// A TorchScript module.
    TorchScript(TorchScriptSpec),
    /// A diffusion pipeline.
    TextToImage(Box<TextToImageSpec>),
    /// The built-in test model.
    Echo,
}

/// A TorchScript module and its signature.
#[derive(Clone, Debug, PartialEq)]
pub struct TorchScriptSpec {
    /// The file of the module.
    pub entry: String,
    /// What it takes and gives.
    pub signature: Signature,
}

/// How tasks may run together in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// The most; 1: never batched.
    #[serde(default = "one")]
    pub max: u32,
    /// How long the first may wait for others, in milliseconds.
    #[serde(default)]
    pub max_delay_ms: u32,
}

const fn one() -> u32 {
    1
}

impl Default for Batching {
    fn default() -> Self {
        Self { max: 1, max_delay_ms: 0 }
    }
}

impl Batching {
    /// How long the first may wait for others.
    pub fn max_delay(&self) -> Duration {
        Duration::from_millis(u64::from(self.max_delay_ms))
    }
}

/// A diffusion pipeline: its parts, its noise schedule, and the limits of its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextToImageSpec {
    /// The files of its parts.
    pub components: Components,
    /// How prompts become tokens.
    pub tokenizer: TokenizerSpec,
    /// The noise schedule that it was trained with.
    pub schedule: Schedule,
    /// The space that it denoises in.
    pub latents: Latents,
    /// Picture sizes that it takes.
    pub image: ImageLimits,
    /// Defaults and limits of sampling.
    pub sampling: Sampling,
}

/// The files of a pipeline's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// A Hugging Face `tokenizer.json`.
    pub tokenizer: String,
    /// `(ids: i64 [B, L]) -> [B, L, D]`.
    pub text_encoder: String,
    /// `(sample: [B, C, h, w], timestep: f32 [B], hidden: [B, L, D]) -> [B, C, h, w]`.
    pub denoiser: String,
    /// `(latents / scale: [B, C, h, w]) -> [B, 3, H, W]` in −1..1.
    pub decoder: String,
}

/// How prompts become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSpec {
    /// Tokens of every prompt; shorter ones are padded, longer ones cut.
    pub length: u32,
    /// The token that pads.
    pub pad_id: u32,
    /// Put before the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_id: Option<u32>,
    /// Put after it; survives cutting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_id: Option<u32>,
}

/// A noise schedule, in the terms of DDPM (Ho et al. 2020) as diffusers names them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Steps of the forward process.
    pub train_timesteps: u32,
    /// β of the first step.
    pub beta_start: f64,
    /// β of the last step.
    pub beta_end: f64,
    /// How β runs between them.
    pub beta_schedule: BetaSchedule,
    /// What the denoiser predicts.
    pub prediction: Prediction,
    /// How sampling steps are spread over the training steps.
    pub timestep_spacing: TimestepSpacing,
    /// Added to each timestep with `leading` spacing.
    #[serde(default)]
    pub steps_offset: u32,
}

/// How β runs from its first to its last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Evenly.
    Linear,
    /// √β evenly.
    ScaledLinear,
    /// From a squared cosine (Nichol and Dhariwal 2021).
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosCapV2,
}

/// What a denoiser predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity (Salimans and Ho 2022).
    VPrediction,
}

/// How sampling steps are spread over the training steps (Lin et al. 2023, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// From step 0, evenly.
    Leading,
    /// To the last step, evenly.
    Trailing,
    /// Both ends included.
    Linspace,
}

/// The space that a pipeline denoises in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latents {
    /// Channels.
    pub channels: u32,
    /// Pixels per latent cell, along each side.
    pub downscale: u32,
    /// The decoder is given latents divided by this.
    pub scale: f64,
}

/// Picture sizes that a pipeline takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLimits {
    /// In pixels.
    pub width: SizeLimits,
    /// In pixels.
    pub height: SizeLimits,
}

/// Limits of one side, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeLimits {
    /// When the job does not say.
    pub default: u32,
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// It must be a multiple of this.
    pub multiple: u32,
}

/// Defaults and limits of sampling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Denoising steps.
    pub steps: Limits<u32>,
    /// Scale of classifier-free guidance (Ho and Salimans 2022).
    pub guidance_scale: Limits<f64>,
    /// The sampler, when the job does not say.
    pub sampler: Sampler,
    /// The type that CUDA devices compute in; a CPU always uses `fp32`.
    #[serde(default)]
    pub dtype: Dtype,
}

/// A default and the ends of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits<T> {
    /// When the job does not say.
    pub default: T,
    /// The least.
    pub min: T,
    /// The most.
    pub max: T,
}

/// A floating-point type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    Fp32,
    /// 16 bits.
    Fp16,
}

/// The text of a `model.toml`, before what its kind asks for is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    version: String,
    kind: ModelKind,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    batching: Batching,
    #[serde(default)]
    resources: Resources,
    entry: Option<String>,
    #[serde(default)]
    inputs: Vec<InputSpec>,
    #[serde(default)]
    outputs: Vec<OutputSpec>,
    components: Option<Components>,
    tokenizer: Option<TokenizerSpec>,
    schedule: Option<Schedule>,
    latents: Option<Latents>,
    image: Option<ImageLimits>,
    sampling: Option<Sampling>,
}

/// A `model.toml` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// It is no TOML, or a key is unknown, missing or of the wrong type.
    #[error("model.toml: {0}")]
    Toml(#[from] toml::de::Error),
    /// Its name or version can't be part of a path.
    #[error("model.toml: {0}")]
    Id(#[from] InvalidId),
    /// What it says does not go together.
    #[error("model.toml: `{key}`: {message}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
}

fn wrong(key: &str, message: impl Into<String>) -> InvalidManifest {
    InvalidManifest::Key { key: key.to_owned(), message: message.into() }
}

fn needed<T>(value: Option<T>, key: &str, kind: ModelKind) -> Result<T, InvalidManifest> {
    value.ok_or_else(|| wrong(key, format!("is missing; a {} model needs it", kind.as_str())))
}

impl Manifest {
    /// Reads and checks the text of a `model.toml`.
    pub fn parse(text: &str) -> Result<Self, InvalidManifest> {
        let document: Document = toml::from_str(text)?;
        let id = ModelId::new(&document.name, &document.version)?;
        for (file, checksum) in &document.files {
            check_file_name(file)?;
            check_checksum(file, checksum)?;
        }
        if document.batching.max == 0 {
            return Err(wrong("batching.max", "is 0; use 1 for a model that is never batched"));
        }
        let spec = match document.kind {
            ModelKind::Torchscript => Spec::TorchScript(TorchScriptSpec {
                entry: needed(document.entry, "entry", document.kind)?,
                signature: Signature::new(document.inputs, document.outputs)
                    .map_err(|(key, message)| wrong(&key, message))?,
            }),
            ModelKind::TextToImage => Spec::TextToImage(Box::new(TextToImageSpec {
                components: needed(document.components, "components", document.kind)?,
                tokenizer: needed(document.tokenizer, "tokenizer", document.kind)?,
                schedule: needed(document.schedule, "schedule", document.kind)?,
                latents: needed(document.latents, "latents", document.kind)?,
                image: needed(document.image, "image", document.kind)?,
                sampling: needed(document.sampling, "sampling", document.kind)?,
            })),
            ModelKind::Echo => return Err(wrong("kind", "`echo` is built in and can't be pushed")),
        };
        let manifest = Self {
            id,
            files: document.files,
            batching: document.batching,
            resources: document.resources,
            spec,
        };
        manifest.check_numbers()?;
        Ok(manifest)
    }

    /// The manifest of the built-in model `echo`.
    pub fn echo() -> Self {
        Self {
            id: ModelId::new("echo", "1").expect("a valid name"),
            files: BTreeMap::new(),
            batching: Batching::default(),
            resources: Resources::default(),
            spec: Spec::Echo,
        }
    }

    /// The model's kind.
    pub const fn kind(&self) -> ModelKind {
        match self.spec {
            Spec::TorchScript(_) => ModelKind::Torchscript,
            Spec::TextToImage(_) => ModelKind::TextToImage,
            Spec::Echo => ModelKind::Echo,
        }
    }

    /// The files that the model can't run without, with the key that names each.
    pub fn needed_files(&self) -> Vec<(&'static str, &str)> {
        match &self.spec {
            Spec::TorchScript(spec) => vec![("entry", &spec.entry)],
            Spec::TextToImage(spec) => vec![
                ("components.tokenizer", &spec.components.tokenizer),
                ("components.text_encoder", &spec.components.text_encoder),
                ("components.denoiser", &spec.components.denoiser),
                ("components.decoder", &spec.components.decoder),
            ],
            Spec::Echo => Vec::new(),
        }
    }

    /// Every file that the model can't run without is listed with its checksum (true of any that was pushed).
    pub fn check_complete(&self) -> Result<(), InvalidManifest> {
        for (key, file) in self.needed_files() {
            if !self.files.contains_key(file) {
                return Err(wrong(key, format!("names `{file}`, which is not listed under [files]")));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), InvalidManifest> {
        for (key, file) in self.needed_files() {
            check_file_name(file)
                .map_err(|_| wrong(key, format!("`{file}` is not the name of a file beside model.toml")))?;
        }
        let Spec::TextToImage(spec) = &self.spec else { return Ok(()) };
        for (key, side) in [("image.width", spec.image.width), ("image.height", spec.image.height)] {
            if side.multiple == 0 || side.multiple % spec.latents.downscale.max(1) != 0 {
                return Err(wrong(key, "`multiple` must be a positive multiple of `latents.downscale`"));
            }
            if side.min == 0
                || !(side.min..=side.max).contains(&side.default)
                || side.default % side.multiple != 0
            {
                return Err(wrong(
                    key,
                    "`default` must be a multiple of `multiple` and lie from `min` (at least 1) to `max`",
                ));
            }
        }
        let positive = [
            ("tokenizer.length", spec.tokenizer.length),
            ("latents.channels", spec.latents.channels),
            ("latents.downscale", spec.latents.downscale),
            ("schedule.train_timesteps", spec.schedule.train_timesteps),
            ("sampling.steps.min", spec.sampling.steps.min),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(wrong(key, "must be at least 1"));
        }
        if spec.sampling.steps.max > spec.schedule.train_timesteps {
            return Err(wrong("sampling.steps.max", "is more than `schedule.train_timesteps`"));
        }
        if !spec.latents.scale.is_normal() {
            return Err(wrong("latents.scale", "must be a number other than 0"));
        }
        let betas = [spec.schedule.beta_start, spec.schedule.beta_end];
        if betas.iter().any(|beta| !(0.0..1.0).contains(beta) || *beta == 0.0) {
            return Err(wrong("schedule", "`beta_start` and `beta_end` must lie between 0 and 1"));
        }
        Ok(())
    }
}

/// The longest name of a model's file: what the field of a plain tar header holds.
pub const MAX_FILE_NAME_BYTES: usize = 100;

/// File names are flat: a model can't reach outside its directory.
fn check_file_name(name: &str) -> Result<(), InvalidManifest> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !name.starts_with('.')
        && !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && name.chars().all(safe);
    if good && name != "model.toml" {
        Ok(())
    } else {
        Err(wrong(
            "files",
            format!(
                "`{name}` is not the name of a file beside model.toml (a-z A-Z 0-9 . _ -, at most 100 of them, no folders)"
            ),
        ))
    }
}

fn check_checksum(file: &str, checksum: &str) -> Result<(), InvalidManifest> {
    let digits = checksum.strip_prefix("sha256:").unwrap_or("");
    if digits.len() == 64 && digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
        Ok(())
    } else {
        Err(wrong(&format!("files.{file}"), "must be `sha256:` and 64 hexadecimal digits in lower case"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAD: &str = include_str!("testdata/vad.toml");

    #[test]
    fn reads_the_manifest_of_the_design() {
        let manifest = Manifest::parse(VAD).unwrap();
        assert_eq!(manifest.id.to_string(), "vad@6");
        assert_eq!(manifest.batching.max, 16);
        manifest.check_complete().unwrap();
    }

    #[test]
    fn says_which_key_is_wrong() {
        let broken = [
            (VAD.replace("kind =", "knd ="), "knd"),
            (VAD.replace("entry = \"model.pt\"", ""), "`entry`: is missing"),
            (VAD.replace("model.pt\" =", "../model.pt\" ="), "../model.pt"),
            (VAD.replace("max = 16", "max = 0"), "batching.max"),
            (VAD.replace("FP32", "FLOAT"), "FLOAT"),
            (VAD.replace("name = \"vad\"", "name = \"../vad\""), "../vad"),
        ];
        for (text, word) in broken {
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{error} should name {word}");
        }
    }
}
