"""The alternatives: each peer with the same model, job and records, in a separate environment.

``benchmarks/peers/setup.sh`` creates the environments; a peer without one is left out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.commands.bench.contenders import Contender, Task
from worker.kafka.embedded.runtime import java

HERE = Path(__file__).parent / "peers"
JVM_WARM_UP = 0.5  # of the outputs: its compilers work for half a minute


@dataclass(frozen=True, slots=True)
class Peer:
    """A contender, and how many events it gets: slow ones get fewer."""

    contender: Contender
    events: int


def prepare(model: Path, folder: Path) -> None:
    """Written beside a Keras file: its weights as arrays, and one step of it for ONNX Runtime."""
    weights = model.with_suffix(".npz")
    subprocess.run([sys.executable, str(HERE / "weights.py"), str(model), str(weights)], check=True)
    python = folder / "onnx" / "bin" / "python"
    if python.exists():
        command = [str(python), str(HERE / "onnx_step.py"), str(weights), str(model.with_suffix(".onnx"))]
        subprocess.run(command, check=True)


def peers(folder: Path, partitions: int) -> list[Peer]:
    """Those whose environments are in ``folder``."""
    found = [Peer(Contender("stateful Keras model, batch 1", _usual_way), 4_000)]
    for name, title, script, events, more in (
        ("quix", "Quix Streams, numpy step", "quix.py", 150_000, ()),
        ("bytewax", "Bytewax, numpy step", "bytewax_flow.py", 150_000, ()),
        ("faust", "faust-streaming, numpy step", "faust_app.py", 40_000, (str(partitions),)),
    ):
        python = folder / name / "bin" / "python"
        if python.exists():
            found.append(Peer(Contender(title, _in_python(python, script, more)), events))
    jars = folder / "kafka_streams" / "target"
    if jars.is_dir():
        for guarantee in ("at_least_once", "exactly_once_v2"):
            title = f"Kafka Streams, ONNX Runtime, {guarantee}"
            found.append(Peer(Contender(title, _in_java(jars, guarantee), warm_up=JVM_WARM_UP), 1_000_000))
    return found


def _usual_way(task: Task) -> list[str]:
    return [sys.executable, str(HERE / "usual_way.py"), task.servers, task.source, task.target, str(task.model)]


def _in_python(python: Path, script: str, more: tuple[str, ...]) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        weights = str(task.model.with_suffix(".npz"))
        return [
            str(python),
            str(HERE / script),
            task.servers,
            task.source,
            task.target,
            weights,
            str(task.folder),
            *more,
        ]

    return command


def _in_java(target: Path, guarantee: str) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        step = str(task.model.with_suffix(".onnx"))
        path = f"{target / 'classes'}:{target / 'jars'}/*"
        given = [task.servers, task.source, task.target, step, str(task.folder), guarantee]
        return [str(java()), "-Xmx1g", "-cp", path, "bench.Peer", *given]

    return command
