"""Prometheus and promtool: on the path, or from Debian's package, fetched once into the virtual environment.

``make setup`` runs this file. Rule: a folder gets its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "prometheus"
FETCH_TIMEOUT_S = 300
PARTS = ("usr", "bin")


class NoPrometheusError(Exception):
    """There is none, and why none can be fetched."""


def cache_folder() -> Path:
    """Where the package's folders are kept, one of each version."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "share" / "rnn-stream-worker"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnn-stream-worker"


def can_fetch() -> bool:
    """Whether this system has Debian's packages."""
    return all(shutil.which(each) for each in ("apt-get", "dpkg-deb"))


def program(name: str) -> Path:
    """The executable ``prometheus`` or ``promtool``. Raises NoPrometheusError."""
    if found := shutil.which(name):
        return Path(found)
    for folder in _cached():
        if (file := folder.joinpath(*PARTS, name)).is_file():
            return file
    if not can_fetch():
        raise NoPrometheusError(f"no {name} on the path, and no apt-get to fetch Debian's package {PACKAGE} with")
    return fetch().joinpath(*PARTS, name)


def _cached() -> list[Path]:
    return sorted(cache_folder().glob(f"{PACKAGE}_*"), reverse=True)


def fetch() -> Path:
    """Download and unpack the package; the folder is named like its file. Raises NoPrometheusError."""
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as work:
        try:
            file = _download(Path(work))
            _run(["dpkg-deb", "-x", file.name, "unpacked"], Path(work))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise NoPrometheusError(f"Debian's package {PACKAGE} can't be fetched: {said.strip()[-300:]}") from error
        # A rename is refused when another process was first: its folder is as good as ours.
        with contextlib.suppress(OSError):
            (Path(work) / "unpacked").rename(root / file.stem)
        return root / file.stem


def _download(work: Path) -> Path:
    try:
        _run(["apt-get", "download", PACKAGE], work)
    except subprocess.CalledProcessError:  # a new machine knows no packages yet
        _run(["apt-get", "update"], work)
        _run(["apt-get", "download", PACKAGE], work)
    return next(work.glob(f"{PACKAGE}_*.deb"))


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)


def main() -> int:
    """Print which one there is, or that a system without Debian's packages has none; 1 when it can't be fetched."""
    try:
        found = program("promtool")
    except NoPrometheusError as error:
        sys.stderr.write(f"{error}\n")
        return 1 if can_fetch() else 0
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    sys.stdout.write(version.partition("(")[0].strip() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
