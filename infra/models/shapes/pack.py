"""Writes the model directory of `shapes` from what `train.py` left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import net
import train

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import export  # noqa: E402
import model_dir  # noqa: E402

VERSION = "1"


def pack(work: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model, decoder = train.Diffuser(), net.Decoder()
    model.load_state_dict(torch.load(work / "denoiser.pt")["average"])
    decoder.load_state_dict(torch.load(work / "autoencoder.pt")["decoder"])
    decoder.eval()  # before tracing: only then it clamps
    latents = torch.randn(2, net.LATENT_CHANNELS, 8, 8)
    ids = torch.zeros(2, net.TOKENS, dtype=torch.int64)
    text = torch.randn(2, net.TOKENS, net.TEXT_WIDTH)
    parts = {
        "text_encoder": (model.text_encoder, (ids,)),
        "denoiser": (model.denoiser, (latents, torch.tensor([900.0, 100.0]), text)),
        "decoder": (decoder, (latents,)),
    }
    for part, (module, example) in parts.items():
        export.trace(module, example).save(str(out / f"{part}.pt"))
    train.tokenizer().save(str(out / "tokenizer.json"))
    components = {"tokenizer": "tokenizer.json", **{part: f"{part}.pt" for part in parts}}
    side = model_dir.side(64, 64, 64, net.DOWNSCALE)
    model_dir.write_manifest(
        out,
        list(components.values()),
        {"name": "shapes", "version": VERSION, "kind": "text-to-image"},
        {
            "components": components,
            "tokenizer": {"length": net.TOKENS, "pad_id": 0},
            "schedule": {
                "train_timesteps": train.TRAIN_TIMESTEPS,
                "beta_start": train.BETA_START,
                "beta_end": train.BETA_END,
                "beta_schedule": "linear",
                "prediction": "v_prediction",
                "timestep_spacing": "trailing",
            },
            "latents": {"channels": net.LATENT_CHANNELS, "downscale": net.DOWNSCALE, "scale": 1.0},
            "image": {"width": side, "height": side},
            "sampling": {
                "steps": model_dir.limits(20, 1, 100),
                "guidance_scale": model_dir.limits(3.0, 1.0, 20.0),
                "sampler": "dpmpp_2m",
                "dtype": "fp32",
            },
            "batching": {"max": 8, "max_delay_ms": 2},
            "resources": {"device": "any", "gpu_memory_bytes": 0},
        },
    )
    total = sum((out / name).stat().st_size for name in [*components.values(), "model.toml"])
    print(f"{total / 2**20:.2f} MiB in {out}")
