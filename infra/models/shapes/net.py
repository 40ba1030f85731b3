"""The networks of `shapes`: a small latent diffusion model, built for a processor with a few cores.

Pictures of 64x64 pixels become latents of 8x8 cells with 8 channels; the denoiser works on those 64 cells, so that
a step costs little. Everything is kept small enough for fp32 weights in a source repository (8 MiB in all).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 16
TEXT_WIDTH = 96
LATENT_CHANNELS = 8
DOWNSCALE = 8


def _conv(inputs, outputs, kernel=3):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class Residual(nn.Module):
    """The plain residual block of the autoencoder."""

    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), _conv(width, width),
            nn.GroupNorm(8, width), nn.SiLU(), _conv(width, width),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x)


class Encoder(nn.Module):
    """Picture [B, 3, H, W] in [-1, 1] -> latent mean. Needed for training only."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2), _conv(12, 32), nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), Residual(64),
            nn.Conv2d(64, 96, 3, stride=2, padding=1), Residual(96), Residual(96),
            nn.GroupNorm(8, 96), nn.SiLU(), _conv(96, LATENT_CHANNELS),
        )  # fmt: skip

    def forward(self, image):
        return self.body(image)


class Decoder(nn.Module):
    """Latent [B, C, h, w] -> picture [B, 3, 8h, 8w] in [-1, 1].

    `mean` and `std` undo the whitening of the latents, so that the denoiser sees unit variance in every channel.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, LATENT_CHANNELS, 1, 1))
        self.register_buffer("std", torch.ones(1, LATENT_CHANNELS, 1, 1))
        self.body = nn.Sequential(
            _conv(LATENT_CHANNELS, 96), Residual(96),
            _conv(96, 4 * 48, 1), nn.PixelShuffle(2), Residual(48),
            _conv(48, 4 * 32, 1), nn.PixelShuffle(2), Residual(32),
            nn.SiLU(), _conv(32, 4 * 16), nn.PixelShuffle(2), nn.SiLU(), _conv(16, 3),
        )  # fmt: skip

    def forward(self, latents):
        image = self.body(latents * self.std + self.mean)
        return torch.clamp(image, -1.0, 1.0) if not self.training else image


class TextEncoder(nn.Module):
    """Token ids [B, L] -> [B, L, D]. Padding is a token like any other; the empty prompt is all padding."""

    def __init__(self, vocabulary):
        super().__init__()
        self.token = nn.Embedding(vocabulary, TEXT_WIDTH)
        self.position = nn.Parameter(torch.randn(1, TOKENS, TEXT_WIDTH) * 0.5)
        self.layers = nn.ModuleList([TextLayer() for _ in range(2)])
        self.norm = nn.LayerNorm(TEXT_WIDTH)

    def forward(self, input_ids):
        x = self.token(input_ids) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class TextLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self):
        super().__init__()
        self.attention = Attention(TEXT_WIDTH, TEXT_WIDTH)
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(TEXT_WIDTH, 2 * TEXT_WIDTH), nn.GELU(), nn.Linear(2 * TEXT_WIDTH, TEXT_WIDTH)
        )

    def forward(self, x):
        x = self.attention(x, None)
        return x + self.mlp(self.norm(x))


class Attention(nn.Module):
    """Pre-norm residual attention; to itself when `context` is None."""

    def __init__(self, width, context_width, heads=4):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x, context):
        y = self.norm(x)
        q = self.query(y)
        k, v = self.key_value(y if context is None else context).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Convolution steered by time and text, attention over the picture, attention to the words."""

    def __init__(self, width, condition):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.steer = nn.Linear(condition, 2 * width)
        self.spread = _conv(width, width)
        self.mix = _conv(width, width, 1)
        self.picture = Attention(width, width)
        self.words = Attention(width, TEXT_WIDTH)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x, condition, context):
        scale, shift = self.steer(condition)[..., None, None].chunk(2, dim=1)
        y = F.silu(self.norm(x) * (1 + scale) + shift)
        x = x + self.mix(F.silu(self.spread(y)))
        y = x.flatten(2).transpose(1, 2)
        y = self.words(self.picture(y, None), context)
        return y.transpose(1, 2).unflatten(2, x.shape[2:])


class Denoiser(nn.Module):
    """(latents [B, C, 8, 8], timestep float [B], text [B, L, D]) -> v."""

    def __init__(self, width=128, blocks=4):
        super().__init__()
        # As a buffer, since tracing would freeze the device of a tensor made on the way.
        rates = torch.exp(torch.arange(width // 2) * (-math.log(10000.0) / (width // 2)))
        self.register_buffer("rates", rates, persistent=False)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Linear(TEXT_WIDTH, width)
        self.place = nn.Parameter(torch.randn(1, width, 8, 8) * 0.1)
        self.enter = _conv(LATENT_CHANNELS, width)
        self.blocks = nn.ModuleList([Block(width, width) for _ in range(blocks)])
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), _conv(width, LATENT_CHANNELS))

    def forward(self, sample, timestep, encoder_hidden_states):
        angles = timestep[:, None] * self.rates[None]
        time = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        condition = F.silu(time + self.text(encoder_hidden_states.mean(dim=1)))
        x = self.enter(sample) + self.place
        for block in self.blocks:
            x = block(x, condition, encoder_hidden_states)
        return self.leave(x)
