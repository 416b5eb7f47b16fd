"""Dropout for CPUs: the same distribution as ``nn.Dropout``, at a tenth of what its random numbers cost.

torch draws a CPU's Bernoulli numbers one by one, which is a tenth of a small transformer's training step in bfloat16.
Here each number takes 16 bits of a fast counter, so the probability of keeping is rounded to a multiple of 2^-16 (and
the scale follows what was rounded).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 1 << 16


class FastDropout(nn.Dropout):
    """``nn.Dropout`` whose masks are drawn in bulk; seeded by torch's global generator, once a call."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero each value with probability ``p`` and scale the others; outside of training, return the input."""
        kept = round((1.0 - self.p) * _STEPS)
        if not self.training or self.p == 0 or kept == 0 or input.device.type != "cpu":
            return super().forward(input)
        generator = np.random.SFC64(int(torch.randint(1 << 62, ())))
        raw = generator.random_raw(-(-input.numel() // 4)).view(np.uint16)[: input.numel()]
        noise = torch.from_numpy(raw < kept).view(input.shape).to(input.dtype).mul_(_STEPS / kept)
        return input * noise


def use_fast_dropout(network: nn.Module) -> None:
    """Replace every ``nn.Dropout`` within a network, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, FastDropout(child.p, child.inplace))
