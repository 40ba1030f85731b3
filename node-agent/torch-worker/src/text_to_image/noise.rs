//! The noise that pictures are made from.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::Failure;

/// libtorch's CPU generator is one per process.
static GENERATOR: Mutex<()> = Mutex::new(());

/// All draws of a batch of pictures: the first is what denoising starts from, the next ones are the noise after each
/// step of an ancestral sampler.
///
/// Draw *k* of a picture is the *k*-th `torch.randn([1, C, h, w])` of a CPU generator with the picture's own seed.
/// So a picture is the same in any batch and on any device, and a resumed run can draw again.
#[derive(Debug)]
pub struct Noise {
    draws: Vec<Tensor>,
}

impl Noise {
    /// `count` draws for each seed, of shape `[C, h, w]`.
    pub fn draw(seeds: &[u64], shape: [i64; 3], count: usize) -> Result<Self, Failure> {
        let failed = |error| Failure::torch("drawing noise", &error);
        let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pictures = Vec::with_capacity(seeds.len());
        for &seed in seeds {
            tch::manual_seed(seed.cast_signed());
            let draws = (0..count)
                .map(|_| Tensor::f_randn([1, shape[0], shape[1], shape[2]], (Kind::Float, Device::Cpu)))
                .collect::<Result<Vec<_>, _>>();
            pictures.push(draws.map_err(failed)?);
        }
        let draws = (0..count).map(|draw| {
            let row: Vec<_> = pictures.iter().map(|picture| &picture[draw]).collect();
            Tensor::f_cat(&row, 0)
        });
        Ok(Self { draws: draws.collect::<Result<_, _>>().map_err(failed)? })
    }

    /// What denoising starts from, `[B, C, h, w]`, of unit variance.
    pub fn initial(&self) -> &Tensor {
        &self.draws[0]
    }

    /// The noise after a step, where it was drawn.
    pub fn after(&self, step: usize) -> Option<&Tensor> {
        self.draws.get(step + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_noise_in_any_batch() {
        let alone = Noise::draw(&[8], [4, 2, 3], 3).unwrap();
        let among = Noise::draw(&[7, 8, 9], [4, 2, 3], 3).unwrap();
        for step in 0..2 {
            let row = among.after(step).unwrap().narrow(0, 1, 1);
            assert_eq!(&row, alone.after(step).unwrap());
        }
        assert_eq!(among.initial().narrow(0, 1, 1), *alone.initial());
        assert_ne!(alone.initial(), alone.after(0).unwrap());
        assert!(alone.after(2).is_none());
    }
}
