//! DPM-Solver++ (2M): the second-order multistep solver of Lu et al. 2022 (arXiv 2211.01095, algorithm 2), midpoint
//! form. As `DPMSolverMultistepScheduler` of diffusers with `algorithm_type="dpmsolver++"`, `solver_order=2`,
//! `solver_type="midpoint"`, `final_sigmas_type="zero"`: the first and the last step are of first order.

use springtide_core::model::Prediction;
use tch::{TchError, Tensor};

use super::schedule::SigmaSteps;
use super::{NoiseSchedule, Sampler, mix};

/// See the module.
#[derive(Debug)]
pub(super) struct Dpmpp2m {
    levels: SigmaSteps,
    prediction: Prediction,
    /// The picture that the step before predicted.
    previous: Option<Tensor>,
}

/// A noise level as the paper writes it: x = α·x₀ + σ·ε with α² + σ² = 1, and λ = ln(α/σ).
#[derive(Debug, Clone, Copy)]
struct Level {
    alpha: f64,
    sigma: f64,
    lambda: f64,
}

impl Level {
    fn new(sigma: f64) -> Self {
        let alpha = 1.0 / sigma.hypot(1.0);
        Self { alpha, sigma: sigma * alpha, lambda: -sigma.ln() }
    }
}

impl Dpmpp2m {
    pub(super) fn new(noise: &NoiseSchedule, steps: usize) -> Self {
        let timesteps = noise.spread_without_last(steps);
        let sigmas = noise.sigmas_to_zero(&timesteps);
        Self { levels: SigmaSteps { timesteps, sigmas }, prediction: noise.prediction(), previous: None }
    }

    pub(super) fn new_karras(noise: &NoiseSchedule, steps: usize) -> Self {
        let mut levels = noise.karras_of_all(steps);
        for timestep in &mut levels.timesteps {
            *timestep = if noise.is_cosine() { timestep.trunc() } else { timestep.round_ties_even() };
        }
        Self { levels, prediction: noise.prediction(), previous: None }
    }

    /// The picture that the denoiser's output stands for.
    fn picture(&self, level: Level, x: &Tensor, output: &Tensor) -> Result<Tensor, TchError> {
        match self.prediction {
            Prediction::Epsilon => mix(1.0 / level.alpha, x, -level.sigma / level.alpha, output),
            Prediction::VPrediction => mix(level.alpha, x, -level.sigma, output),
        }
    }
}

impl Sampler for Dpmpp2m {
    fn steps(&self) -> usize {
        self.levels.timesteps.len()
    }

    fn timestep(&self, step: usize) -> f64 {
        self.levels.timesteps[step]
    }

    fn initial_scale(&self) -> f64 {
        1.0
    }

    fn input_scale(&self, _step: usize) -> f64 {
        1.0
    }

    /// x' = (σ'/σ)·x − α'·(e⁻ʰ − 1)·D with h = λ' − λ. First order: D = x₀. Second: D = x₀ + (x₀ − x₀⁻)/(2r) with
    /// r = h⁻/h.
    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        output: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let at = |step: usize| Level::new(self.levels.sigmas[step]);
        let (now, next) = (at(step), at(step + 1));
        let picture = self.picture(now, x, output)?;
        let h = next.lambda - now.lambda;
        let is_last = step + 1 == self.steps();
        let direction = match &self.previous {
            Some(previous) if step > 0 && !is_last => {
                let half = h / (now.lambda - at(step - 1).lambda) / 2.0;
                mix(1.0 + half, &picture, -half, previous)?
            }
            _ => picture.shallow_clone(),
        };
        self.previous = Some(picture);
        // At the end h is infinite, e⁻ʰ is 0, and what remains is the picture itself.
        mix(next.sigma / now.sigma, x, -next.alpha * (-h).exp_m1(), &direction)
    }

    fn history(&self) -> Option<&Tensor> {
        self.previous.as_ref()
    }

    fn restore(&mut self, history: Option<Tensor>) {
        self.previous = history;
    }
}
