"""The step from a checkpoint to a model file: integers, proven bounds, digest, card."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import archiver
from archiver.codec.inference import engine
from archiver.codec.model import architecture, frozen, grid, limits, mgcf, model_file
from archiver.errors import ArchiverError
from archiver.training.checkpoint import Checkpoint


def export(net: mgcf.MGCF, name: str, card: dict[str, Any]) -> bytes:
    """Return the model file of a trained network; FormatError if an exactness bound fails."""
    net.train()
    file = model_file.ModelFile(name, net.architecture, frozen.quantise(net), card=card)
    tested = replace(file, self_test=engine.digest_of(file))
    model = tested.to_bytes()
    frozen.build(model_file.ModelFile.from_bytes(model))  # what is written can be read
    return model


def network(checkpoint: Checkpoint) -> tuple[mgcf.MGCF, list[str]]:
    """Return the averaged network, and a line for each layer whose rows had to be clamped."""
    net = mgcf.MGCF(checkpoint.architecture)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if not bool(checkpoint.average[name].isfinite().all()):
                raise ArchiverError(
                    f"the run diverged: {name} is not finite; begin again with a lower --peak"
                )
            parameter.copy_(checkpoint.average[name])
    return net, clamp_rows(net)


@torch.no_grad()
def clamp_rows(net: mgcf.MGCF) -> list[str]:
    """Shrink the rows whose sums could leave the exact range; returns a line for each layer hit.

    Training stays far from the bound (Sum |w| of a row may reach 112), so this is for networks
    that diverged or were made by hand.
    """
    clamped = []
    for name, layer in net.named_modules():
        if not isinstance(layer, frozen.GridLayer | mgcf.BasePredictor):
            continue
        carried = limits.STREAM_LIMIT if name.endswith(("project", "contract")) else 0.0
        bias = None if isinstance(layer, mgcf.BasePredictor) else layer.bias * architecture.UNIT
        bound = grid.row_bounds(layer.weight, bias, carried=carried)
        over = bound > _SAFE
        if bool(over.any()):
            fixed = carried + (0.0 if bias is None else bias.double().abs())
            shrink = torch.where(over, (_SAFE - fixed) / (bound - fixed), 1.0)
            layer.weight.mul_(shrink.clamp(min=0.0).view(-1, *[1] * (layer.weight.dim() - 1)))
            clamped.append(f"{name}: {int(over.sum())} of {len(over)} rows, to {shrink.min():.3f}")
    return clamped


# Rounding to the grid may lengthen a row by half a step an input: leave that much room.
_SAFE = limits.EXACT_LIMIT * 0.98


def card_of(checkpoint: Checkpoint, licence: str, clamped: list[str]) -> dict[str, Any]:
    """Return what a model file says about its making."""
    return {
        "archiver": archiver.__version__,
        "commit": _commit(),
        "torch": str(torch.__version__),
        "steps": checkpoint.step,
        "legs": checkpoint.history,
        "licence": licence,
        "clamped": clamped,
    }


def _commit() -> str:
    """Return the commit of the source tree this runs from; "" if it is an installed package."""
    here = Path(archiver.__file__).parent
    try:
        return subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
