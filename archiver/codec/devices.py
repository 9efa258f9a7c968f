"""Own the question which accelerators this machine has."""

from __future__ import annotations


def n_gpus() -> int:
    """Return how many CUDA devices this process may use; opens none of them."""
    import torch

    return int(torch.cuda.device_count()) if torch.version.cuda else 0
