"""All rules of the project: importing this module registers them."""

from __future__ import annotations

from worker.model import (
    categories,
    convolution,
    masking,
    merging,
    operations,
    per_step,
    pooling,
    recurrent,
    refused,
    shaping,
    wrapped,
)

__all__ = [
    "categories",
    "convolution",
    "masking",
    "merging",
    "operations",
    "per_step",
    "pooling",
    "recurrent",
    "refused",
    "shaping",
    "wrapped",
]
