//! The pipeline against diffusers: same tokens, same noise, same final latents, same picture.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

#[path = "support/models.rs"]
mod models;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use springtide_core::model::Sampler;
use springtide_torch_worker::text_to_image::{Image, Noise, Pipeline, Settings};
use springtide_torch_worker::{Model, sampler};
use tch::{Kind, Tensor};

/// The largest difference, relative to the standard deviation, that the project allows.
const TOLERANCE: f64 = 1e-4;

struct Reference {
    dir: std::path::PathBuf,
    index: Value,
    pipelines: HashMap<String, Pipeline>,
}

impl Reference {
    fn load() -> Option<Self> {
        // More would wait for each other on models as small as these.
        tch::set_num_threads(1);
        let dir = models::parity()?;
        let index = serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap();
        Some(Self { dir, index, pipelines: HashMap::new() })
    }

    fn pipeline(&mut self, model: &Value) -> &Pipeline {
        let name = model.as_str().unwrap();
        let dir = self.dir.join(name);
        self.pipelines.entry(name.to_owned()).or_insert_with(|| load(&dir))
    }

    fn array(&self, path: &Value) -> Tensor {
        Tensor::read_npy(self.dir.join(path.as_str().unwrap())).unwrap()
    }

    fn list(&self, name: &str) -> Vec<Value> {
        let list = self.index[name].as_array().unwrap().clone();
        assert!(!list.is_empty());
        list
    }
}

fn load(dir: &Path) -> Pipeline {
    match Model::load(dir, tch::Device::Cpu).unwrap() {
        Model::TextToImage(pipeline) => *pipeline,
        Model::TorchScript(_) => panic!("a text-to-image model"),
    }
}

fn off(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let difference = (ours - theirs).abs().max().double_value(&[]);
    difference / theirs.std(true).double_value(&[])
}

fn settings(case: &Value) -> Settings {
    let number = |name: &str| u32::try_from(case[name].as_u64().unwrap()).unwrap();
    Settings {
        width: number("width"),
        height: number("height"),
        steps: number("steps"),
        guidance_scale: case["guidance_scale"].as_f64().unwrap(),
        sampler: serde_json::from_value::<Sampler>(case["sampler"].clone()).unwrap(),
    }
}

fn seeds(case: &Value) -> Vec<u64> {
    case["seeds"].as_array().unwrap().iter().map(|seed| seed.as_u64().unwrap()).collect()
}

#[test]
fn prompts_become_the_same_tokens_and_the_same_hidden_states() {
    let Some(mut reference) = Reference::load() else { return };
    for case in reference.list("tokens") {
        let ids = reference.pipeline(&case["model"]).tokens(case["prompt"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::json!(ids), case["ids"], "{}", case["prompt"]);
    }
    for case in reference.list("text") {
        let hidden = reference.pipeline(&case["model"]).hidden(&[case["prompt"].as_str().unwrap()]).unwrap();
        let off = off(&hidden, &reference.array(&case["hidden"]));
        assert!(off < TOLERANCE, "{}: {off} off", case["prompt"]);
    }
}

#[test]
fn noise_is_drawn_in_the_same_order() {
    let Some(mut reference) = Reference::load() else { return };
    for case in reference.list("cases") {
        let settings = settings(&case);
        let shape = reference.pipeline(&case["model"]).latent_shape(settings.width, settings.height);
        let noise = Noise::draw(&seeds(&case), shape, settings.steps as usize + 1).unwrap();
        assert_eq!(*noise.initial(), reference.array(&case["noise"]), "{}", case["name"]);
        if case["stream"].is_string() {
            let stream = reference.array(&case["stream"]);
            for step in 0..settings.steps {
                assert_eq!(
                    *noise.after(step as usize).unwrap(),
                    stream.get(i64::from(step)),
                    "{}",
                    case["name"]
                );
            }
        }
    }
}

#[test]
fn final_latents_and_pictures_are_those_of_diffusers() {
    let Some(mut reference) = Reference::load() else { return };
    let mut worst: HashMap<String, (f64, String)> = HashMap::new();
    let mut failures = Vec::new();
    for case in reference.list("cases") {
        let name = case["name"].as_str().unwrap().to_owned();
        let settings = settings(&case);
        let seeds = seeds(&case);
        let pipeline = reference.pipeline(&case["model"]);
        let sampler = sampler::new(settings.sampler, &pipeline.spec.schedule, settings.steps);
        for (step, expected) in case["timesteps"].as_array().unwrap().iter().enumerate() {
            let (ours, theirs) = (sampler.timestep(step), expected.as_f64().unwrap());
            if (ours - theirs).abs() > 1e-2 {
                failures.push(format!("{name}: step {step} is at timestep {ours}, not {theirs}"));
            }
        }
        let [prompt, negative_prompt] =
            ["prompt", "negative_prompt"].map(|field| case[field].as_str().unwrap());
        let images: Vec<_> = seeds.iter().map(|&seed| Image { prompt, negative_prompt, seed }).collect();
        let latents = pipeline.denoise(&settings, &images, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let pictures = pipeline.decode(&latents).unwrap();
        let off = off(&latents, &reference.array(&case["latents"]));
        let entry = worst.entry(case["sampler"].as_str().unwrap().to_owned()).or_default();
        if off > entry.0 {
            *entry = (off, name.clone());
        }
        if off.is_nan() || off > TOLERANCE {
            failures.push(format!("{name}: {off:.2e} off"));
        }
        if case["image"].is_string() {
            let expected = reference.array(&case["image"]);
            let expected = ((expected / 2.0 + 0.5) * 255.0).round().permute([0, 2, 3, 1]).contiguous();
            for (row, picture) in pictures.iter().enumerate() {
                let ours = Tensor::from_slice(&picture.rgb).to_kind(Kind::Float);
                let theirs = expected.get(row as i64).flatten(0, -1);
                let levels = (ours - theirs).abs().max().double_value(&[]);
                if levels > 1.0 {
                    failures.push(format!("{name}: picture {row} is {levels} levels off"));
                }
            }
        }
    }
    for (sampler, (off, case)) in &worst {
        println!("{sampler}: at most {off:.2e} of the standard deviation off ({case})");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_picture_is_the_same_in_any_batch() {
    let Some(mut reference) = Reference::load() else { return };
    let pipeline = reference.pipeline(&Value::from("models/v"));
    let settings =
        Settings { width: 32, height: 32, steps: 8, guidance_scale: 4.0, sampler: Sampler::EulerA };
    let pictures = |seeds: &[u64]| {
        let image = |&seed: &u64| Image { prompt: "a star", negative_prompt: "", seed };
        let images: Vec<_> = seeds.iter().map(image).collect();
        let latents = pipeline.denoise(&settings, &images, None, &mut |_| ControlFlow::Continue(())).unwrap();
        pipeline.decode(&latents).unwrap()
    };
    let together = pictures(&[1, 2, 3, 4, 5, 6]);
    let apart: Vec<_> = [&[1, 2, 3, 4][..], &[5], &[6]].into_iter().flat_map(pictures).collect();
    for (one, other) in together.iter().zip(&apart) {
        assert!(one.rgb.iter().zip(&other.rgb).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
    assert_ne!(together[0], together[1]);
}
