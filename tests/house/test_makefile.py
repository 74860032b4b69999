"""``make``: what has failed is tried again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_kafka_that_could_not_be_fetched_is_fetched_by_the_next_setup(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(MAKEFILE.parent / name, tmp_path)
    fetched = tmp_path / "fetched"
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / ".venv" / ".ready").touch()

    def setup(status: int) -> str:
        python.write_text(f"#!/bin/sh\necho $* >> {fetched}\nexit {status}\n")
        python.chmod(0o755)
        done = subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stderr

    assert "continuing without Kafka" in setup(1)
    assert setup(0) == ""
    assert setup(1) == "", "done once"
    assert fetched.read_text().count("prepare") == 2
