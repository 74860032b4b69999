"""Causal convolutions and what is pooled over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ZOO: dict[str, Callable[[], Any]] = {}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
