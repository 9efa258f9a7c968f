"""The coding network of a model file, as tensors, and back.

Adapters, archive models and training need the network; `inference.native` codes without it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from archiver.codec.model import architecture, causal, grid, layers, limits, mgcf, taps
from archiver.codec.model.model_file import ModelFile, Tensors

GridLayer = mgcf.Linear | mgcf.CausalConv | mgcf.DepthwiseConv


def _layers(net: mgcf.MGCF) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net.named_modules():
        if isinstance(module, GridLayer | mgcf.BasePredictor):
            yield name, module


def _mask(layer: nn.Module) -> torch.Tensor:
    """Return what a layer's weight is multiplied with: causal taps of kernels, else 1."""
    if isinstance(layer, mgcf.Linear):
        return torch.ones(())
    return causal.mask(strict=not isinstance(layer, mgcf.DepthwiseConv))


def quantise(net: mgcf.MGCF) -> Tensors:
    """Return the integers of a network, in training mode or already on the grid."""
    tensors: Tensors = {}
    for name, layer in _layers(net):
        if isinstance(layer, mgcf.BasePredictor):
            tensors[f"{name}.weight"] = _base_mantissas(layer).to(torch.int16).cpu().numpy()
        elif isinstance(layer, GridLayer):
            masked = layer.weight.detach() * _mask(layer)
            exponents = grid.row_exponents(masked)
            mantissa = grid.quantise_rows(masked, exponents)
            bias = grid.snap_bias(layer.bias.detach() * architecture.UNIT) * 2.0**limits.STEP_BITS
            tensors[f"{name}.weight"] = mantissa.to(torch.int8).cpu().numpy()
            tensors[f"{name}.exponent"] = exponents.to(torch.int8).cpu().numpy()
            tensors[f"{name}.bias"] = bias.to(torch.int32).cpu().numpy()
    return tensors


def _base_mantissas(layer: mgcf.BasePredictor) -> torch.Tensor:
    """Return the kernel (C, C, 4, 7) of a base predictor in training mode, in steps."""
    mantissas = (layer.on_grid().detach() * 2.0**architecture.BASE_BITS).round()
    channels, kernel = len(mantissas), torch.zeros_like(layer.weight)
    seen = mantissas.view(channels, -1, channels)
    for number, (row, column) in enumerate(taps.causal_taps(strict=True)):
        kernel[:, :, row, column] = seen[:, number]
    return kernel


def build(model: ModelFile) -> mgcf.MGCF:
    """Return the coding network of a model file; FormatError unless it is proven to be exact."""
    layers.check(model)
    net = mgcf.MGCF(model.architecture).eval().requires_grad_(False)
    for name, layer in _layers(net):
        weight = torch.from_numpy(model.tensors[f"{name}.weight"].astype(np.float32))
        if isinstance(layer, mgcf.BasePredictor):
            layer.weight.copy_(weight * _mask(layer) * 2.0**-architecture.BASE_BITS)
        elif isinstance(layer, GridLayer):
            exponents = torch.from_numpy(model.tensors[f"{name}.exponent"].astype(np.float32))
            bias = torch.from_numpy(model.tensors[f"{name}.bias"].astype(np.float32))
            scale = torch.exp2(exponents).view(-1, *[1] * (layer.weight.dim() - 1))
            layer.weight.copy_(weight * scale * _mask(layer))
            layer.bias.copy_(bias * (limits.STEP / architecture.UNIT))
            if isinstance(layer, mgcf.DepthwiseConv):
                layer.mask.copy_(_mask(layer))
    return net
