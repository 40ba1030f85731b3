//! DDIM (Song, Meng, Ermon 2020), η = 0. As `DDIMScheduler` of diffusers, with `clip_sample` off and
//! `set_alpha_to_one` off, as the pipelines of Stable Diffusion set it.

use springtide_core::model::Prediction;
use tch::{TchError, Tensor};

use super::{NoiseSchedule, Sampler, mix};

/// See the module.
#[derive(Debug)]
pub(super) struct Ddim {
    timesteps: Vec<usize>,
    /// ᾱ before and after each step.
    alphas: Vec<(f64, f64)>,
    prediction: Prediction,
}

impl Ddim {
    pub(super) fn new(noise: &NoiseSchedule, steps: usize) -> Self {
        let timesteps: Vec<usize> =
            noise.spread(steps).into_iter().map(|timestep| timestep.round_ties_even() as usize).collect();
        let stride = noise.train_timesteps() / steps;
        let alphas = timesteps.iter().map(|&timestep| {
            let after = timestep.saturating_sub(stride);
            (noise.alpha_cumprod(timestep), noise.alpha_cumprod(after))
        });
        Self { alphas: alphas.collect(), timesteps, prediction: noise.prediction() }
    }
}

impl Sampler for Ddim {
    fn steps(&self) -> usize {
        self.timesteps.len()
    }

    fn timestep(&self, step: usize) -> f64 {
        self.timesteps[step] as f64
    }

    fn initial_scale(&self) -> f64 {
        1.0
    }

    fn input_scale(&self, _step: usize) -> f64 {
        1.0
    }

    /// Equation 12 with σ = 0: x' = √ᾱ'·x₀ + √(1 − ᾱ')·ε. For v-prediction (Salimans and Ho 2022, appendix D):
    /// x₀ = √ᾱ·x − √(1 − ᾱ)·v and ε = √ᾱ·v + √(1 − ᾱ)·x.
    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        output: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let (before, after) = self.alphas[step];
        let (alpha, sigma) = (before.sqrt(), (1.0 - before).sqrt());
        let (alpha_after, sigma_after) = (after.sqrt(), (1.0 - after).sqrt());
        match self.prediction {
            Prediction::Epsilon => {
                let picture = mix(1.0 / alpha, x, -sigma / alpha, output)?;
                mix(alpha_after, &picture, sigma_after, output)
            }
            Prediction::VPrediction => {
                let picture = mix(alpha, x, -sigma, output)?;
                let epsilon = mix(alpha, output, sigma, x)?;
                mix(alpha_after, &picture, sigma_after, &epsilon)
            }
        }
    }
}
