"""Draws with a finished `shapes` model directory, and counts how often the checker agrees with the prompt.

    python sample.py MODEL_DIR SHEET.png [--prompts 200] [--steps 20] [--guidance 3] [--sampler dpmpp_2m]

Runs the TorchScript files as the worker does, with diffusers' scheduler. The prompts are scenes drawn at random with
a seed of their own, half of them in the plain wording, half in any wording that fixes the whole picture.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from PIL import Image
from tokenizers import Tokenizer

import check
import draw

SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}


class Pipeline:
    """The parts of a model directory."""

    def __init__(self, directory: Path):
        self.manifest = tomllib.loads((directory / "model.toml").read_text())
        parts = self.manifest["components"]
        self.tokenizer = Tokenizer.from_file(str(directory / parts["tokenizer"]))
        self.text_encoder, self.denoiser, self.decoder = (
            torch.jit.load(str(directory / parts[part])).eval() for part in ("text_encoder", "denoiser", "decoder")
        )

    def scheduler(self, sampler: str):
        schedule = self.manifest["schedule"]
        extra = {"clip_sample": False, "set_alpha_to_one": False} if sampler == "ddim" else {}
        return SAMPLERS[sampler](
            num_train_timesteps=schedule["train_timesteps"],
            beta_start=schedule["beta_start"],
            beta_end=schedule["beta_end"],
            beta_schedule=schedule["beta_schedule"],
            prediction_type=schedule["prediction"],
            timestep_spacing=schedule["timestep_spacing"],
            **extra,
        )

    @torch.no_grad()
    def __call__(self, prompts, seeds, sampler: str, steps: int, guidance: float) -> np.ndarray:
        """uint8 [B, 64, 64, 3]; the initial noise is that of a CPU generator per seed."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(["", *prompts])]
        text = self.text_encoder(torch.tensor(ids))
        text = torch.cat([text[:1].expand(len(prompts), -1, -1), text[1:]])
        channels = self.manifest["latents"]["channels"]
        cells = self.manifest["image"]["width"]["default"] // self.manifest["latents"]["downscale"]
        noise = [torch.randn(1, channels, cells, cells, generator=torch.Generator().manual_seed(s)) for s in seeds]
        scheduler = self.scheduler(sampler)
        scheduler.set_timesteps(steps)
        latents = torch.cat(noise) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            given = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
            plain, guided = self.denoiser(given, timestep.float().expand(len(given)), text).chunk(2)
            latents = scheduler.step(plain + guidance * (guided - plain), timestep, latents).prev_sample
        image = self.decoder(latents / self.manifest["latents"]["scale"])
        return ((image + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def scenes_and_prompts(count: int):
    rng = np.random.default_rng(2024)
    rows = []
    while len(rows) < count:
        scene = draw.random_scene(rng)
        text = draw.plain_caption(scene) if len(rows) % 2 == 0 else draw.caption(scene, rng)
        if _says_all(scene, text):
            rows.append((scene, text))
    return rows


def _says_all(scene, text) -> bool:
    """Some training captions leave the ground or the placing open; they test nothing."""
    words = text.replace(",", "").split()
    placed = scene.relation is None or {"left", "right", "above", "over", "below", "under"} & set(words)
    named = sum(word in draw.COLOURS for word in words) == 1 + len(scene.figures)
    return bool(placed) and named and "unheard-of" not in words


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--sampler", choices=list(SAMPLERS))
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--show", type=int, default=60, help="pictures on the sheet")
    parser.add_argument("--scale", type=int, default=1)
    options = parser.parse_args()
    pipeline = Pipeline(options.model)
    sampling = pipeline.manifest["sampling"]
    settings = {
        "sampler": options.sampler or sampling["sampler"],
        "steps": options.steps or sampling["steps"]["default"],
        "guidance": options.guidance or sampling["guidance_scale"]["default"],
    }
    rows, images = scenes_and_prompts(options.prompts), []
    for start in range(0, len(rows), 50):
        prompts = [text for _, text in rows[start : start + 50]]
        images += list(pipeline(prompts, range(start, start + len(prompts)), **settings))
    tally = {1: [], 2: []}
    for (scene, text), image in zip(rows, images):
        figures = [(figure.form, figure.colour) for figure in scene.figures]
        good = check.agrees(image, scene.ground, figures, scene.relation)
        tally[len(figures)].append(good)
        if not good:
            reading = check.read(image)
            seen = ", ".join(f"{f.colour} {f.form} at {f.x:.0f},{f.y:.0f}" for f in reading.figures)
            print(f"differs: {text!r}: {seen} on {reading.ground}")
    for count, results in tally.items():
        print(f"{count} figure(s): {sum(results)} of {len(results)}")
    everything = tally[1] + tally[2]
    print(f"agreement {100 * sum(everything) / len(everything):.1f} % of {len(everything)} prompts, {settings}")
    page = draw.sheet(images[: options.show], options.columns, options.scale)
    Image.fromarray(page).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
