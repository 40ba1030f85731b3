//! Euler's method with ancestral noise: each step goes below its target and is brought back up to it by fresh noise.
//! As `EulerAncestralDiscreteScheduler` of diffusers; Karras's noise levels, which that one does not offer, are
//! those of `EulerDiscreteScheduler`.

use springtide_core::model::Prediction;
use tch::{TchError, Tensor};

use super::euler::derivative;
use super::schedule::SigmaSteps;
use super::{NoiseSchedule, Sampler, mix};

/// See the module.
#[derive(Debug)]
pub(super) struct EulerA {
    levels: SigmaSteps,
    initial_scale: f64,
    prediction: Prediction,
}

impl EulerA {
    pub(super) fn new(noise: &NoiseSchedule, levels: SigmaSteps) -> Self {
        Self { initial_scale: noise.initial_scale(&levels.sigmas), levels, prediction: noise.prediction() }
    }
}

impl Sampler for EulerA {
    fn steps(&self) -> usize {
        self.levels.timesteps.len()
    }

    fn timestep(&self, step: usize) -> f64 {
        self.levels.timesteps[step]
    }

    fn initial_scale(&self) -> f64 {
        self.initial_scale
    }

    fn input_scale(&self, step: usize) -> f64 {
        1.0 / self.levels.sigmas[step].hypot(1.0)
    }

    fn is_ancestral(&self) -> bool {
        true
    }

    /// k-diffusion's `get_ancestral_step` with η = 1: `σ_up² = σ'²·(σ² − σ'²)/σ²`, `σ_down² = σ'² − σ_up²`.
    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        output: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let (sigma, next) = (self.levels.sigmas[step], self.levels.sigmas[step + 1]);
        let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt();
        let down = (next.powi(2) - up.powi(2)).sqrt();
        let slope = derivative(self.prediction, sigma, x, output)?;
        let lower = mix(1.0, x, down - sigma, &slope)?;
        match noise {
            Some(noise) => mix(1.0, &lower, up, noise),
            None => Ok(lower),
        }
    }
}
