"""Trains `shapes` and writes its model directory.

    python train.py data        WORK     draw the pictures and their captions
    python train.py autoencoder WORK     pictures <-> latents
    python train.py denoiser    WORK     latents from noise and text (resumes from its last checkpoint)
    python train.py decoder     WORK     polish the decoder against the finished encoder
    python train.py export      WORK OUT trace the parts, write model.toml with checksums

Each stage leaves its result in WORK and reads those before it, so that a stage can be repeated alone.
"""

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import draw
import net

PICTURES = 80_000
WORDINGS = 6  # captions kept for each picture
TRAIN_TIMESTEPS = 1000
BETA_START, BETA_END = 1e-4, 0.02  # linear: little signal is left at the last step, so noise is a fair start
CPU_LAYOUT = torch.channels_last  # convolutions are several times faster so
LATENT_NOISE = 0.03  # the decoder must bear small errors of the denoiser


# --- data -------------------------------------------------------------------------------------------------------


def tokenizer():
    """Words in lower case; commas are words; anything else is [UNK]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    words = ["[PAD]", "[UNK]", *draw.vocabulary()]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    built = Tokenizer(model)
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.enable_truncation(net.TOKENS)
    built.enable_padding(length=net.TOKENS, pad_id=0, pad_token="[PAD]")
    return built


def _draw_part(part):
    seed, count = part
    rng = np.random.default_rng(seed)
    images, captions = np.empty((count, draw.SIZE, draw.SIZE, 3), np.uint8), []
    for i in range(count):
        scene = draw.random_scene(rng)
        images[i] = draw.draw(scene, rng)
        captions += [draw.caption(scene, rng) for _ in range(WORDINGS)]
    ids = [encoding.ids for encoding in tokenizer().encode_batch(captions)]
    return images, np.array(ids, np.uint8).reshape(count, WORDINGS, net.TOKENS)


def make_data(work: Path):
    parts = [(seed, PICTURES // 40) for seed in range(40)]
    with multiprocessing.Pool(2) as pool:
        done = pool.map(_draw_part, parts, chunksize=1)
    np.save(work / "images.npy", np.concatenate([images for images, _ in done]))
    np.save(work / "ids.npy", np.concatenate([ids for _, ids in done]))


def _load_images(work: Path):
    return torch.from_numpy(np.load(work / "images.npy"))


def _batch(images, index):
    return images[index].permute(0, 3, 1, 2).float() / 127.5 - 1


# --- autoencoder ------------------------------------------------------------------------------------------------


def _picture_loss(made, image):
    """L1 keeps edges sharp, and its gradient term more so. Pale contrasts count as much as strong ones."""
    contrast = image.std(dim=(2, 3)).mean(dim=1)
    weight = 0.25 / (contrast + 0.06)
    error = (made - image).abs().mean(dim=(1, 2, 3)) + (made - image).square().mean(dim=(1, 2, 3))
    for dim in (2, 3):
        error = error + (made.diff(dim=dim) - image.diff(dim=dim)).abs().mean(dim=(1, 2, 3))
    return (weight * error).mean()


def train_autoencoder(work: Path, steps=3000, batch=40, rate=2e-3):
    """Starts from the last result, if there is one."""
    images = _load_images(work)
    encoder, decoder = net.Encoder().to(memory_format=CPU_LAYOUT), net.Decoder().to(memory_format=CPU_LAYOUT)
    if (work / "autoencoder.pt").exists():
        saved = torch.load(work / "autoencoder.pt")
        encoder.load_state_dict(saved["encoder"])
        decoder.load_state_dict(saved["decoder"])
        decoder.mean.zero_()
        decoder.std.fill_(1.0)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4, betas=(0.9, 0.99))
    started = time.time()
    for step in range(steps):
        _set_rate(optimizer, step, step / steps, rate, warmup=60)
        image = _batch(images, torch.randint(len(images), (batch,)))
        latent = encoder(image)
        made = decoder(latent + LATENT_NOISE * torch.randn_like(latent))
        loss = _picture_loss(made, image) + 1e-3 * latent.square().mean()
        _step(optimizer, parameters, loss)
        if step % 50 == 0 or step == steps - 1:
            _say(step, started, picture=loss.item(), latent=latent.std().item())
    _finish_autoencoder(work, images, encoder, decoder)


@torch.no_grad()
def _finish_autoencoder(work, images, encoder, decoder):
    """Whitens the latents and keeps those of the whole data set."""
    encoder.eval()
    latents = torch.cat([encoder(_batch(images, index)) for index in torch.arange(len(images)).split(256)])
    decoder.mean.copy_(latents.mean((0, 2, 3), keepdim=True))
    decoder.std.copy_(latents.std((0, 2, 3), keepdim=True))
    np.save(work / "latents.npy", ((latents - decoder.mean) / decoder.std).numpy())
    _save(work / "autoencoder.pt", {"encoder": encoder.state_dict(), "decoder": decoder.state_dict()})


def polish_decoder(work: Path, steps=2000, batch=40):
    """The encoder stays as it is, so a decoder can be trained on at any time."""
    images, latents = _load_images(work), torch.from_numpy(np.load(work / "latents.npy"))
    saved = torch.load(work / "autoencoder.pt")
    decoder = net.Decoder().to(memory_format=CPU_LAYOUT)
    decoder.load_state_dict(saved["decoder"])
    average = copy.deepcopy(decoder)
    parameters = list(decoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.99))
    started = time.time()
    for step in range(steps):
        _set_rate(optimizer, step, step / steps, 1e-3, warmup=50)
        index = torch.randint(len(images), (batch,))
        image, latent = _batch(images, index), latents[index]
        loss = _picture_loss(decoder(latent + 0.06 * torch.randn_like(latent)), image)
        _step(optimizer, parameters, loss)
        _follow(average, decoder, 0.995)
        if step % 100 == 0 or step == steps - 1:
            _say(step, started, picture=loss.item())
    _save(work / "autoencoder.pt", {**saved, "decoder": average.state_dict()})


# --- denoiser ---------------------------------------------------------------------------------------------------


def alphas_cumprod():
    return torch.cumprod(1 - torch.linspace(BETA_START, BETA_END, TRAIN_TIMESTEPS, dtype=torch.float64), 0).float()


class Diffuser(torch.nn.Module):
    """Text encoder and denoiser, trained together."""

    def __init__(self):
        super().__init__()
        self.text_encoder = net.TextEncoder(2 + len(draw.vocabulary()))
        self.denoiser = net.Denoiser()

    def forward(self, sample, timestep, ids):
        return self.denoiser(sample, timestep, self.text_encoder(ids))


def train_denoiser(work: Path, steps: int, minutes: float | None = None, batch=64, rate=1.5e-3):
    """With `minutes`, the clock ends it, and not the count: for a machine that is busy with other things."""
    latents = torch.from_numpy(np.load(work / "latents.npy"))
    ids = torch.from_numpy(np.load(work / "ids.npy"))
    cumulative = alphas_cumprod()
    model = Diffuser().to(memory_format=CPU_LAYOUT)
    average = copy.deepcopy(model)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.99))
    step, path = 0, work / "denoiser.pt"
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    print(f"parameters {sum(p.numel() for p in parameters):,}", flush=True)

    def save():
        state = {"model": model.state_dict(), "average": average.state_dict()}
        _save(path, {**state, "optimizer": optimizer.state_dict(), "step": step})

    started, mean = time.time(), None
    while (done := (time.time() - started) / (60 * minutes) if minutes else step / steps) < 1:
        _set_rate(optimizer, step, done, rate, warmup=200)
        loss = _denoiser_loss(model, latents, ids, cumulative, batch)
        _step(optimizer, parameters, loss)
        step += 1
        _follow(average, model, min(0.998, step / (step + 10)))
        mean = loss.item() if mean is None else mean + 0.01 * (loss.item() - mean)
        if step % 100 == 0:
            _say(step, started, loss=mean)
        if step % 500 == 0:
            save()
    save()


def _denoiser_loss(model, latents, ids, cumulative, batch):
    index = torch.randint(len(latents), (batch,))
    clean = latents[index]
    tokens = ids[index, torch.randint(WORDINGS, (batch,))].long()
    tokens[torch.rand(batch) < 0.1] = 0  # classifier-free guidance needs the empty prompt
    timestep = torch.randint(TRAIN_TIMESTEPS, (batch,))
    signal = cumulative[timestep].sqrt()[:, None, None, None]
    noise_level = (1 - cumulative[timestep]).sqrt()[:, None, None, None]
    noise = torch.randn_like(clean)
    v = signal * noise - noise_level * clean
    return F.mse_loss(model(signal * clean + noise_level * noise, timestep.float(), tokens), v)


# --- what the stages share --------------------------------------------------------------------------------------


def _set_rate(optimizer, step, done, rate, warmup):
    """Linear warm-up, then a cosine down to 1 % when `done` comes to 1."""
    factor = min((step + 1) / warmup, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate * factor


def _step(optimizer, parameters, loss):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


@torch.no_grad()
def _follow(average, model, decay):
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def _save(path: Path, value):
    """Whole or not at all: the training may be stopped at any time."""
    torch.save(value, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _say(step, started, **figures):
    text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
    print(f"step {step}  {text}  {time.time() - started:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["data", "autoencoder", "denoiser", "decoder", "export"])
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float, help="of the denoiser's training, instead of steps")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    options.work.mkdir(parents=True, exist_ok=True)
    steps = {"steps": options.steps} if options.steps else {}
    if options.stage == "data":
        make_data(options.work)
    elif options.stage == "autoencoder":
        train_autoencoder(options.work, **steps)
    elif options.stage == "denoiser":
        train_denoiser(options.work, **{"steps": 16_000, **steps}, minutes=options.minutes)
    elif options.stage == "decoder":
        polish_decoder(options.work, **steps)
    else:
        import pack

        pack.pack(options.work, options.out)


if __name__ == "__main__":
    main()
