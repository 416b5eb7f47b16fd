"""An exponential moving average of a network's weights (Polyak averaging), judged in place of the last weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages of a network's trainable floating-point weights.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the first, bad weights are soon forgotten.

    Args:
        network: Its present weights are the start.
        decay: In (0, 1).

    Attributes:
        weights: Averages by parameter name.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._updates = torch.zeros((), dtype=torch.int64)
        self._averages = {n: p.detach().clone() for n, p in network.named_parameters() if p.is_floating_point()}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Averages by parameter name, and the number of updates; plain tensors for a checkpoint."""
        return {**self._averages, "": self._updates}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what :attr:`weights` gave."""
        self._updates = weights[""].clone().cpu()
        self._averages = {n: w.clone() for n, w in weights.items() if n}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the averages towards the network's weights."""
        self._updates += 1
        t = int(self._updates)
        decay = min(self._decay, (1 + t) / (10 + t))
        for name, parameter in network.named_parameters():
            if name in self._averages:
                average = self._averages[name] = self._averages[name].to(parameter.device)
                average.lerp_(parameter.detach(), 1.0 - decay)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange averages and weights; the second call undoes the first."""
        for name, parameter in network.named_parameters():
            if name in self._averages:
                average = self._averages[name] = self._averages[name].to(parameter.device)
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)
