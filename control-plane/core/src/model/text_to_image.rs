//! The input of a `text-to-image` model: of a job, and of each of the tasks that it is split into.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::{Limits, SizeLimits, TextToImageSpec};
use super::{Batching, InputFault};

/// The longest prompt. Text encoders read some 77 tokens; what is longer is a mistake, not a wish.
pub const MAX_PROMPT_BYTES: usize = 10_000;

/// A way from noise to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// DDIM (Song et al. 2020), η = 0.
    Ddim,
    /// Euler's method (Karras et al. 2022, algorithm 2 without churn).
    Euler,
    /// The same on Karras's noise levels.
    EulerKarras,
    /// Euler with ancestral noise.
    EulerA,
    /// The same on Karras's noise levels.
    EulerAKarras,
    /// DPM-Solver++ (2M) (Lu et al. 2022).
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
    /// The same on Karras's noise levels.
    #[serde(rename = "dpmpp_2m_karras")]
    Dpmpp2mKarras,
}

/// What a job asks for, with the model's defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRequest {
    /// All its pictures, as if one task made them.
    pub whole: ImageTask,
    /// Pictures of each task; the last one may have fewer.
    pub images_per_task: u32,
}

/// What one task makes: pictures with the seeds `seed`, `seed + 1`, …
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTask {
    /// What shall be seen.
    pub prompt: String,
    /// What shall not.
    #[serde(default)]
    pub negative_prompt: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Scale of classifier-free guidance; 1: none.
    pub guidance_scale: f64,
    /// The sampler.
    pub sampler: Sampler,
    /// The seed of the first picture.
    pub seed: u64,
    /// How many pictures.
    pub images: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    prompt: String,
    #[serde(default)]
    negative_prompt: String,
    width: Option<u32>,
    height: Option<u32>,
    steps: Option<u32>,
    guidance_scale: Option<f64>,
    sampler: Option<Sampler>,
    seed: Option<u64>,
    images: Option<u32>,
    images_per_task: Option<u32>,
}

impl ImageRequest {
    /// Reads a job's input against the model's limits. `random_seed` is used when the job names none.
    pub fn parse(
        input: &Value,
        spec: &TextToImageSpec,
        batching: Batching,
        random_seed: u32,
    ) -> Result<Self, InputFault> {
        let input: Input = super::read(input)?;
        check_prompt("prompt", &input.prompt)?;
        check_prompt("negative_prompt", &input.negative_prompt)?;
        let sampling = &spec.sampling;
        let images = within("images", input.images, Limits { default: 1, min: 1, max: u32::MAX })?;
        let per_task = Limits { default: batching.max.min(images), min: 1, max: batching.max };
        let images_per_task = within("images_per_task", input.images_per_task, per_task)?;
        let seed = input.seed.unwrap_or(u64::from(random_seed));
        if seed > (1 << 53) - 1 - u64::from(images) {
            // Beyond, JSON numbers are not exact everywhere, and two pictures could get one seed.
            return Err(InputFault::field("seed", "must be at most 2^53 − 1 − images"));
        }
        let whole = ImageTask {
            width: side("width", input.width, spec.image.width)?,
            height: side("height", input.height, spec.image.height)?,
            steps: within("steps", input.steps, sampling.steps)?,
            guidance_scale: within("guidance_scale", input.guidance_scale, sampling.guidance_scale)?,
            sampler: input.sampler.unwrap_or(sampling.sampler),
            prompt: input.prompt,
            negative_prompt: input.negative_prompt,
            seed,
            images,
        };
        Ok(Self { whole, images_per_task })
    }

    /// How many tasks it is split into.
    pub fn task_count(&self) -> u32 {
        self.whole.images.div_ceil(self.images_per_task)
    }

    /// The task at a position below [`Self::task_count`].
    pub fn task(&self, index: u32) -> ImageTask {
        self.whole.part(index, self.images_per_task)
    }
}

impl ImageTask {
    /// The part of this whole that task `index` makes, when each makes `images_per_task`.
    #[must_use]
    pub fn part(&self, index: u32, images_per_task: u32) -> Self {
        let first = index * images_per_task;
        let images = images_per_task.min(self.images.saturating_sub(first));
        Self { seed: self.seed + u64::from(first), images, ..self.clone() }
    }

    /// Steps × pixels × pictures, in millions: the size of a task, for the forecast.
    pub fn units(&self) -> f64 {
        let pixels = f64::from(self.width) * f64::from(self.height);
        f64::from(self.steps) * pixels * f64::from(self.images) / 1e6
    }
}

fn check_prompt(name: &str, prompt: &str) -> Result<(), InputFault> {
    if prompt.len() > MAX_PROMPT_BYTES {
        let message = format!("is {} bytes long; at most {MAX_PROMPT_BYTES} are taken", prompt.len());
        return Err(InputFault::field(name, message));
    }
    Ok(())
}

fn within<T>(name: &str, given: Option<T>, limits: Limits<T>) -> Result<T, InputFault>
where
    T: PartialOrd + Copy + std::fmt::Display,
{
    let value = given.unwrap_or(limits.default);
    if value >= limits.min && value <= limits.max {
        return Ok(value);
    }
    Err(InputFault::field(name, format!("is {value}; the model takes {} to {}", limits.min, limits.max)))
}

fn side(name: &str, given: Option<u32>, limits: SizeLimits) -> Result<u32, InputFault> {
    let range = Limits { default: limits.default, min: limits.min, max: limits.max };
    let pixels = within(name, given, range)?;
    if pixels % limits.multiple != 0 {
        let message = format!("is {pixels}; the model takes multiples of {}", limits.multiple);
        return Err(InputFault::field(name, message));
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Manifest, Spec};
    use super::*;

    fn parse(input: &Value) -> Result<ImageRequest, InputFault> {
        let manifest = Manifest::parse(include_str!("testdata/pictures.toml")).unwrap();
        let Spec::TextToImage(spec) = &manifest.spec else { panic!("a text-to-image manifest") };
        ImageRequest::parse(input, spec, manifest.batching, 42)
    }

    #[test]
    fn every_picture_keeps_its_seed_however_the_job_is_split() {
        let input = json!({"prompt": "a red circle", "images": 24, "images_per_task": 5, "seed": 100});
        let request = parse(&input).unwrap();
        assert_eq!(request.task_count(), 5);
        let seeds = (0..5).flat_map(|index| {
            let task = request.task(index);
            (0..u64::from(task.images)).map(move |image| task.seed + image)
        });
        assert!(seeds.eq(100..124));
    }

    #[test]
    fn fills_in_defaults() {
        let request = parse(&json!({"prompt": "a red circle"})).unwrap();
        assert_eq!((request.whole.seed, request.whole.images, request.whole.steps), (42, 1, 20));
        assert_eq!(request.whole.sampler, Sampler::Dpmpp2m);
    }

    #[test]
    fn each_fault_points_at_its_field() {
        let long = "x".repeat(1 << 20);
        let cases = [
            (json!({}), ""),
            (json!({"prompt": 7}), "/prompt"),
            (json!({"prompt": long}), "/prompt"),
            (json!({"prompt": "x", "width": -64}), "/width"),
            (json!({"prompt": "x", "width": 65}), "/width"),
            (json!({"prompt": "x", "height": 1_000_000}), "/height"),
            (json!({"prompt": "x", "steps": 0}), "/steps"),
            (json!({"prompt": "x", "guidance_scale": "NaN"}), "/guidance_scale"),
            (json!({"prompt": "x", "sampler": "magic"}), "/sampler"),
            (json!({"prompt": "x", "images": 0}), "/images"),
            (json!({"prompt": "x", "images_per_task": 99}), "/images_per_task"),
            (json!({"prompt": "x", "seed": -1}), "/seed"),
            (json!({"prompt": "x", "seed": 9_007_199_254_740_991_u64}), "/seed"),
            (json!({"prompt": "x", "stepz": 3}), "/stepz"),
        ];
        for (input, pointer) in cases {
            let fault = parse(&input).unwrap_err();
            assert_eq!(fault.pointer.as_str(), pointer, "{fault}");
        }
    }
}
