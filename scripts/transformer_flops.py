"""FLOPs of a transformer's training, and how many a device can do in a second at most."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from agnews_exp.runners.training import Job, new_network

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12, "T4": 65e12}
"""Dense bf16 (T4: fp16) peak FLOP/s by part of the device's name, from the makers' data sheets."""


def training_flops(job: Job) -> float:
    """Return the model FLOPs of one epoch: 6 per weight and token, plus 12 * layers * width * length of attention.

    Weights of embeddings do no multiplications and are left out (Kaplan et al. 2020; Chowdhery et al. 2022,
    appendix B).
    """
    network = new_network(job)
    config = network.encoder.config
    weights = sum(p.numel() for n, p in network.named_parameters() if "embeddings" not in n)
    lengths = job.train.lengths.astype(np.float64)
    attention = 12.0 * config.num_hidden_layers * config.hidden_size * float((lengths**2).sum())
    return 6.0 * weights * float(lengths.sum()) + attention


def peak_flops(device: str, job: Job) -> float:
    """Return the device's peak FLOP/s: its data sheet's, or else the measured one."""
    return next((peak for part, peak in PEAKS.items() if part in device), None) or measured_peak(job)


def measured_peak(job: Job) -> float:
    """Return the FLOP/s of a large matrix product in the run's precision: the peak of devices without a data sheet."""
    kind = torch.bfloat16 if job.hardware.precision.startswith("bf16") else torch.float32
    left, right = (torch.randn(2048, 2048, dtype=kind, device=job.hardware.device()) for _ in range(2))
    best = math.inf
    for _ in range(10):
        start = time.perf_counter()
        float((left @ right)[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2.0 * 2048**3 / best
