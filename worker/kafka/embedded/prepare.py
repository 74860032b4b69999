"""Fetches what the embedded broker needs and makes it start fast: what ``make setup`` runs, once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from worker.errors import WorkerError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.runtime import COLLECTOR, KAFKA_VERSION, class_archive, jars, java, java_major

CLASS_ARCHIVE_TIMEOUT_S = 120


def prepare() -> str:
    """Fetch what is missing and make the archive of classes; returns a line that says what is installed."""
    executable, paths = java(), jars()
    archive = class_archive(executable)
    if not archive.is_file():
        with tempfile.TemporaryDirectory(prefix=".classes-", dir=archive.parent) as work:
            listing, made = Path(work) / "classes.txt", Path(work) / archive.name
            with EmbeddedKafka(jvm_flags=(f"-XX:DumpLoadedClassList={listing}",)) as broker:
                broker.create_topic("warm-up")
            dump = [str(executable), "-Xshare:dump", f"-XX:SharedClassListFile={listing}", COLLECTOR]
            dump += [f"-XX:SharedArchiveFile={made}", "-cp", os.pathsep.join(map(str, paths))]
            subprocess.run(dump, capture_output=True, timeout=CLASS_ARCHIVE_TIMEOUT_S, check=False)  # noqa: S603
            if made.is_file():  # without it the broker only starts more slowly
                made.rename(archive)
    megabytes = sum(path.stat().st_size for path in paths) // 1_000_000
    return f"Kafka {KAFKA_VERSION}: {len(paths)} jars, {megabytes} MB, Java {java_major(executable)}, ready to start"


def main() -> int:
    """Print the one line of ``prepare``; 1 and a line on standard error when it fails."""
    try:
        sys.stdout.write(prepare() + "\n")
    except WorkerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
