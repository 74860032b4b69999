"""How much a run tries: as much as is bearable before each commit, or, by ``make test-deep``, what a night allows."""

from __future__ import annotations

import os

import pytest

DEEP = bool(os.environ.get("TEST_DEEP"))
TIMES = 20 if DEEP else 1

deep = pytest.mark.deep


def examples(usual: int) -> int:
    """How many cases are drawn where ``usual`` are before each commit."""
    return usual * TIMES
