"""Files of Keras 2, which tf-keras writes in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

WRITTEN_TIMEOUT_S = 900

needs_keras_2 = pytest.mark.skipif(
    importlib.util.find_spec("tf_keras") is None,
    reason="needs tf-keras: pip install --no-deps -c constraints.txt tf-keras",
)


def written_by(module: str, folder: Path) -> Path:
    """The folder, after ``python -m module folder``."""
    command = [sys.executable, "-m", module, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WRITTEN_TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder
