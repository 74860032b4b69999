"""A rule for each kind of layer: how it runs on one step. Importing this package registers them all."""

from __future__ import annotations

from worker.model.layers import (
    categories,
    code,
    convolution,
    keras2,
    masking,
    merging,
    operations,
    per_step,
    pooling,
    recurrent,
    refused,
    shaping,
    shares,
    wrapped,
)

__all__ = [
    "categories",
    "code",
    "convolution",
    "keras2",
    "masking",
    "merging",
    "operations",
    "per_step",
    "pooling",
    "recurrent",
    "refused",
    "shaping",
    "shares",
    "wrapped",
]
