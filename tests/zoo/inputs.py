"""Several inputs and outputs, inputs that are constant per stream, steps that are no plain vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ZOO: dict[str, Callable[[], Any]] = {}

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {}
