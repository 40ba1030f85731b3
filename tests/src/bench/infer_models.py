"""Makes the models of `cargo xtask bench infer` in a directory: `steady` (about 20 ms a call on one core), `small` (about a
millisecond, batched) and `single` (the same, never batched)."""

import hashlib
import sys
import time
from pathlib import Path

import torch
from torch import nn

MANIFEST = """name = "{name}"
version = "1"
kind = "torchscript"
entry = "model.pt"
[files]
"model.pt" = "sha256:{digest}"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 16]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 16]
[batching]
max = {batch}
max_delay_ms = 2
"""


class Blocks(nn.Module):
    """A row of convolutions between two small linear layers: compute, not memory."""

    def __init__(self, channels, side, count):
        super().__init__()
        self.channels, self.side = channels, side
        self.first = nn.Linear(16, channels * side * side)
        self.blocks = nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count)))
        self.last = nn.Linear(channels, 16)

    def forward(self, x):
        y = self.first(x).view(-1, self.channels, self.side, self.side)
        return self.last(torch.tanh(self.blocks(y)).mean((2, 3)))


def seconds(module):
    x = torch.randn(1, 16)
    with torch.no_grad():
        for _ in range(5):
            module(x)
        start = time.perf_counter()
        for _ in range(20):
            module(x)
    return (time.perf_counter() - start) / 20


def save(module, directory, name, batch):
    directory.mkdir(parents=True)
    torch.jit.trace(module.eval(), torch.randn(2, 16)).save(directory / "model.pt")
    digest = hashlib.sha256((directory / "model.pt").read_bytes()).hexdigest()
    (directory / "model.toml").write_text(MANIFEST.format(name=name, digest=digest, batch=batch))


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    count = 4
    while seconds(Blocks(64, 32, count).eval()) < 0.018 and count < 256:
        count += 4
    save(Blocks(64, 32, count), out / "steady", "steady", 1)
    small = Blocks(16, 8, 8)
    save(small, out / "small", "small", 16)
    save(small, out / "single", "single", 1)


main()
