"""Reference data that the Rust samplers are tested against, computed by diffusers itself.

    python parity.py OUT [--small]

makes tiny pipelines in the form of Stable Diffusion 1.x with random weights, exports each as a model directory
(`export.py`), runs diffusers' own `StableDiffusionPipeline` on them and writes, under OUT:

    models/NAME/            model directories, as the worker gets them
    cases/*.npy             float32, C order, little endian
    index.json              what is there, in this form (paths are relative to OUT):

    {
      "versions": {"torch": "…", "diffusers": "…", "transformers": "…"},
      "tokens":   [{"model": "models/epsilon", "prompt": "…", "ids": […]}, …]     padded to the model's length
      "text":     [{"model": …, "prompt": "…", "hidden": "cases/….npy"}, …]       text encoder, [1, L, D]
      "cases": [{
          "name": "epsilon-euler_a-20-32x32",
          "model": "models/epsilon",
          "sampler": "ddim | euler | euler_karras | euler_a | dpmpp_2m | dpmpp_2m_karras",
          "steps": 20, "width": 32, "height": 32, "guidance_scale": 5.0,           1.0: no guidance
          "prompt": "…", "negative_prompt": "…",
          "seeds": [7, 8],                        one for each picture of the batch
          "timesteps": […],                       as passed to the denoiser, in order
          "noise": "cases/noise-….npy",           [B, C, h, w], unit variance, not yet scaled to the first sigma
          "stream": "cases/….npy" | null,         [steps, B, C, h, w]; euler_a only: noise added after each step
          "latents": "cases/….npy",               [B, C, h, w], final, before the division by the scale
          "image": "cases/….npy" | null           [B, 3, H, W] of the decoder, clamped to [-1, 1]; some cases only
      }, …]
    }

Noise: for a picture with seed s, `g = torch.Generator("cpu").manual_seed(s)`; each draw is
`torch.randn(1, C, h, w, generator=g)`. The first is the initial noise, the next ones (one after every step, the last
one included, where it is multiplied by 0) are the ancestral noise.

Choices that diffusers leaves to its configuration, here as Stable Diffusion 1.x ships them: DDIM with eta 0,
`clip_sample` false, `set_alpha_to_one` false (the step past timestep 0 uses alphas_cumprod[0]); DPM-Solver++ of order
2, midpoint, `lower_order_final` true (first order for the last step; in effect also at 15 steps and more, since the
final sigma is 0); Euler and DPM-Solver++ end on sigma 0. With `leading` spacing DPM-Solver++ divides by steps + 1.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import export

LENGTH = 16
PROMPT, NEGATIVE = "a Red circle on Y", "a star"
SEEDS = [7, 2**40 + 8]
SD1 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "leading"}
DDPM = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
SCHEDULES = {
    "epsilon": {"prediction_type": "epsilon", **SD1},
    "v": {"prediction_type": "v_prediction", **SD1},
    "v-trailing": {"prediction_type": "v_prediction", **DDPM, "timestep_spacing": "trailing"},
    "epsilon-linspace": {"prediction_type": "epsilon", **DDPM, "timestep_spacing": "linspace"},
}
SAMPLERS = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_karras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
}
TRACED, OTHER = (32, 32), (48, 32)  # width, height in pixels


# --- the tiny pipeline ------------------------------------------------------------------------------------------


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding with all single letters and a few merges."""
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    words = letters + [letter + "</w>" for letter in letters]
    merges = [("r", "e"), ("re", "d</w>"), ("c", "i"), ("ci", "r"), ("o", "n</w>"), ("s", "t"), ("u", "e</w>")]
    words += [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def tiny_pipeline() -> StableDiffusionPipeline:
    """The parts of Stable Diffusion 1.x, small; latents of 8x8 cells, four pixels each way."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.18215,
    )
    for module in (text, unet, vae):
        module.eval().requires_grad_(False)
    _liven(unet)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler("ddim", SCHEDULES["epsilon"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _liven(unet):
    """Fresh weights all but ignore the text; make it count, or a wrong prompt would pass the test."""
    for name, parameter in unet.named_parameters():
        if "attn2" in name and name.endswith("weight"):
            parameter.mul_(3)


def _scheduler(sampler: str, schedule: dict):
    kind, extra = SAMPLERS[sampler]
    return kind(num_train_timesteps=1000, steps_offset=1, **schedule, **extra)


# --- the reference ----------------------------------------------------------------------------------------------


def plan(small: bool):
    """(model, sampler, steps, size, guidance scale) of every case."""
    for model in ("epsilon", "v"):
        for sampler in SAMPLERS:
            for steps in (8, 20) if small else (8, 20, 50):
                yield model, sampler, steps, TRACED, 5.0
            yield model, sampler, 8, OTHER, 5.0
    for model in ("v-trailing", "epsilon-linspace"):
        for sampler in SAMPLERS:
            yield model, sampler, 8, TRACED, 5.0
            yield model, sampler, 20, TRACED, 5.0
    yield "epsilon", "dpmpp_2m", 8, TRACED, 1.0
    yield "v", "euler_a", 1, TRACED, 5.0
    yield "v", "dpmpp_2m", 1, TRACED, 5.0
    yield "v", "dpmpp_2m", 2, TRACED, 5.0


def generators():
    return [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]


def draws(count: int, width: int, height: int) -> np.ndarray:
    """The first `count` draws of each seed: [count, B, C, h, w]."""
    sources = generators()
    rows = [[torch.randn(1, 4, height // 4, width // 4, generator=g) for g in sources] for _ in range(count)]
    return torch.stack([torch.cat(row) for row in rows]).numpy()


class Writer:
    """Saves arrays and hands back their paths for the index."""

    def __init__(self, out: Path):
        self.out = out
        (out / "cases").mkdir(parents=True, exist_ok=True)

    def save(self, name: str, array) -> str:
        np.save(self.out / "cases" / f"{name}.npy", np.ascontiguousarray(array, dtype="<f4"))
        return f"cases/{name}.npy"


def run_case(pipeline, writer: Writer, model, sampler, steps, size, guidance) -> dict:
    width, height = size
    pipeline.scheduler = _scheduler(sampler, SCHEDULES[model])
    latents = pipeline(
        [PROMPT] * len(SEEDS),
        negative_prompt=[NEGATIVE] * len(SEEDS),
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators(),
        output_type="latent",
    ).images
    name = f"{model}-{sampler}-{steps}-{width}x{height}" + ("-unguided" if guidance == 1.0 else "")
    image = None
    if steps == 8:
        pixels = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0].clamp(-1, 1)
        image = writer.save(f"{name}-image", pixels)
    noise = draws(steps + 1, width, height)
    return {
        "name": name,
        "model": f"models/{model}",
        "sampler": sampler,
        "steps": steps,
        "width": width,
        "height": height,
        "guidance_scale": guidance,
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "seeds": SEEDS,
        "timesteps": [float(t) for t in pipeline.scheduler.timesteps],
        "noise": writer.save(f"noise-{width}x{height}", noise[0]),
        "stream": writer.save(f"{name}-stream", noise[1:]) if sampler == "euler_a" else None,
        "latents": writer.save(f"{name}-latents", latents),
        "image": image,
    }


def text_references(pipeline, writer: Writer) -> tuple[list, list]:
    """Prompts that are short, empty, longer than the model takes, and not in lower case."""
    tokens, text = [], []
    prompts = [PROMPT, NEGATIVE, "", "word " * 40, "it's  THREE 3-d\nrings! 42"]
    for i, prompt in enumerate(prompts):
        ids = pipeline.tokenizer(
            prompt, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        hidden = pipeline.text_encoder(ids)[0]
        tokens.append({"model": "models/epsilon", "prompt": prompt, "ids": ids[0].tolist()})
        text.append({"model": "models/epsilon", "prompt": prompt, "hidden": writer.save(f"hidden-{i}", hidden)})
    return tokens, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true", help="leave out the cases of 50 steps")
    options = parser.parse_args()
    started = time.time()
    torch.set_num_threads(1)  # the layers are tiny; threads only wait for each other
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    pipeline = tiny_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    writer = Writer(options.out)
    with torch.no_grad():
        tokens, text = text_references(pipeline, writer)
        cases = [run_case(pipeline, writer, *case) for case in plan(options.small)]
        for model, schedule in SCHEDULES.items():
            pipeline.scheduler = _scheduler("ddim", schedule)
            export.export_diffusers(pipeline, options.out / "models" / model, f"tiny-{model}")
    packages = {"torch": torch, "diffusers": diffusers, "transformers": transformers}
    versions = {name: package.__version__ for name, package in packages.items()}
    index = {"versions": versions, "tokens": tokens, "text": text, "cases": cases}
    # Written last: a reader that finds it finds everything.
    (options.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(cases)} cases in {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
