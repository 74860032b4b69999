"""Layers and operations that work on each step alone, and those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ZOO: dict[str, Callable[[], Any]] = {}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
