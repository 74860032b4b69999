"""Recurrent layers of every kind: cells, stacks of cells, masks, initial states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ZOO: dict[str, Callable[[], Any]] = {}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
