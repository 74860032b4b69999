"""All rules of the project: importing this module registers them."""

from __future__ import annotations

from worker.model import (
    categories,
    merging,
    operations,
    per_step,
    recurrent,
    refused,
    shaping,
    wrapped,
)

__all__ = [
    "categories",
    "merging",
    "operations",
    "per_step",
    "recurrent",
    "refused",
    "shaping",
    "wrapped",
]
