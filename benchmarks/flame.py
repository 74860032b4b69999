"""Where the time of one event goes: samples (py-spy) of the worker's loop while it processes a filled topic.

    python -m benchmarks.flame    about a minute: benchmarks/results/flame.{raw,json}, docs/pictures/flame.svg
    python -m benchmarks.flame --duration 10 --events 1500000

Samples follow the wall clock, so time that the loop waits (for TensorFlow's threads, for the broker) counts as well.
Only the loop's thread is sampled, from ``Worker.turn`` on. Worker on core 0, py-spy and broker on the others.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.arena import CONTENDERS_CORE
from benchmarks.pictures import Box, icicle
from benchmarks.suite import RESULTS, ROOT
from worker.commands.bench.contenders import Task, worker
from worker.commands.bench.job import Job
from worker.commands.bench.models import DEFAULT_MODEL, save_model
from worker.commands.bench.process import Running, new_folder
from worker.commands.bench.session import FULL_COMPILER, HEAP_MB, PARTITIONS, machine_facts, standing_aside
from worker.commands.bench.topics import Topics
from worker.errors import WorkerError
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.settings import ClientSettings

Frame: TypeAlias = tuple[str, str]  # module as a path from its package, function
Stacks: TypeAlias = Mapping[tuple[Frame, ...], int]  # from Worker.turn on → samples

TURN = ("worker/member/loop.py", "turn")
RATE_HZ = 200
WARM_UP_EVENTS = 100_000  # before the recording begins
WARM_UP_TIMEOUT_S = 120.0
LOOK_S = 0.1
RECORDING_SLACK_S = 60.0
ANY = ""
REST = "rest"
# The innermost frame that is named here decides which stage a sample belongs to.
STAGES: Mapping[str, Sequence[Frame]] = {
    "read from Kafka": [("worker/member/loop.py", "_poll")],
    "decode": [("worker/codecs/decoding.py", "decode")],
    "boundaries and waves": [("worker/engine/engine.py", "process")],
    "model step": [("worker/model/streaming.py", ANY), ("worker/model/step.py", ANY)],
    "encode": [("worker/codecs/encoding.py", "encode"), ("worker/codecs/encoding.py", "dead_letters")],
    "hand over to the producer": [("worker/member/loop.py", "_send")],
    "commit": [("worker/member/loop.py", "commit")],
    "metrics": [
        *(
            ("worker/member/" + name, ANY)
            for name in ("reporter.py", "answer_times.py", "turn_times.py", "lag_gauges.py")
        ),
        *(("worker/member/" + name, ANY) for name in ("lateness.py", "client_gauges.py", "model_watch.py")),
        *((path, ANY) for path in ("worker/engine/sampling.py", "worker/web/metrics.py", "worker/web/histogram.py")),
    ],
    REST: [],
}
STAGE_OF = {frame: stage for stage, frames in STAGES.items() for frame in frames}


def parse(raw: str) -> Stacks:
    """py-spy's raw lines (``frame;frame;… samples``) → stacks below ``Worker.turn``; other threads are left out."""
    found: Counter[tuple[Frame, ...]] = Counter()
    for line in raw.splitlines():
        frames, _, samples = line.rpartition(" ")
        stack = [_frame(each) for each in frames.split(";") if each]
        if TURN in stack:
            found[tuple(stack[stack.index(TURN) :])] += int(samples)
    return found


def _frame(text: str) -> Frame:
    """``function (file:line)``, with the file named as by py-spy or by ``collapsed``."""
    function, _, place = text.rpartition(" (")
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    return _module(path), function.rpartition(".")[2]


def _module(path: str) -> str:
    """The path without this machine's folders: from the package, or from the standard library, on."""
    for root in ("site-packages/", "lib-dynload/"):
        if root in path:
            return path.rpartition(root)[2]
    if "/worker/" in path:
        return "worker/" + path.rpartition("/worker/")[2]
    return path if path.startswith(("worker/", "<")) or not path.startswith("/") else Path(path).name


def collapsed(stacks: Stacks) -> str:
    """Stacks in py-spy's form, without lines and folders; ``parse`` can read them again."""
    lines = [";".join(f"{function} ({module})" for module, function in stack) for stack in stacks]
    return "".join(f"{line} {samples}\n" for line, samples in sorted(zip(lines, stacks.values(), strict=True)))


def stage_of(stack: Iterable[Frame]) -> str:
    """The stage of the loop that a stack belongs to."""
    found = REST
    for module, function in stack:
        found = STAGE_OF.get((module, function)) or STAGE_OF.get((module, ANY)) or found
    return found


def stages(stacks: Stacks, events_per_s: float) -> dict[str, dict[str, float]]:
    """Share of the samples of each stage, and µs per event."""
    counted: Counter[str] = Counter()
    for stack, samples in stacks.items():
        counted[stage_of(stack)] += samples
    shares = {stage: counted[stage] / counted.total() for stage in STAGES}
    return {stage: {"share": share, "us": share * 1e6 / events_per_s} for stage, share in shares.items()}


def boxes(stacks: Stacks) -> list[Box]:
    """Boxes: callees below callers, stages side by side in their order; of foreign code only the entry."""
    found: list[Box] = []
    shown: Counter[tuple[Frame, ...]] = Counter()
    for stack, samples in stacks.items():
        foreign = [depth for depth, (module, _) in enumerate(stack) if not module.startswith("worker/")]
        shown[stack[: foreign[0] + 1] if foreign else stack] += samples
    _place(shown, 0, 0.0, sum(shown.values()), found)
    return found


def _place(part: Stacks, depth: int, left: float, whole: int, found: list[Box]) -> None:
    children: dict[Frame, dict[tuple[Frame, ...], int]] = {}
    for stack, samples in part.items():
        if len(stack) > depth:
            children.setdefault(stack[depth], {})[stack] = samples
    order = sorted(children, key=lambda frame: (_main_stage(children[frame]), -sum(children[frame].values()), frame))
    for frame in order:
        inner = children[frame]
        width = sum(inner.values()) / whole
        stage = stage_of(next(iter(inner))[: depth + 1])
        found.append(Box(depth, left, width, frame[1], frame[0], stage))
        _place(inner, depth + 1, left, whole, found)
        left += width


def _main_stage(stacks: Stacks) -> int:
    """The index of the stage that most of these samples belong to."""
    counted: Counter[str] = Counter()
    for stack, samples in stacks.items():
        counted[stage_of(stack)] += samples
    return max(range(len(STAGES)), key=lambda place: counted[list(STAGES)[place]])


def record(job: Job, duration_s: float) -> tuple[str, float]:
    """Run the worker on an embedded broker: py-spy's raw lines, and the events/s during them. Raises WorkerError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(EmbeddedKafka(heap_mb=HEAP_MB, jvm_flags=[FULL_COMPILER]))
        topics = Topics(ClientSettings(kafka.bootstrap_servers, "confluent"), PARTITIONS)
        stack.callback(topics.close)
        source, target, model = topics.create("events"), topics.create("answers"), folder / "model.keras"
        topics.fill(source, job)
        save_model(DEFAULT_MODEL, job.features, model)
        task = Task(kafka.bootstrap_servers, source, target, job.names, job.streams, model, new_folder())
        running = stack.enter_context(Running(worker("confluent"), task, CONTENDERS_CORE))
        _await_warm(running, topics, target)
        begun, begun_s = topics.records(target), time.monotonic()
        raw = _samples(running.pid, folder / "raw", duration_s)
        done, seconds = topics.records(target), time.monotonic() - begun_s
        if done >= job.events:
            raise WorkerError(f"all {job.events:,} events were done before the recording was: --events must be more")
        return raw, (done - begun) / seconds


def _await_warm(running: Running, topics: Topics, target: str) -> None:
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    while topics.records(target) < WARM_UP_EVENTS:
        running.check()
        if time.monotonic() > deadline:
            raise running.failure(f"has not written {WARM_UP_EVENTS:,} outputs in {WARM_UP_TIMEOUT_S:.0f} s")
        time.sleep(LOOK_S)


def _samples(pid: int, file: Path, duration_s: float) -> str:
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise WorkerError("py-spy is not installed: pip install 'rnn-stream-worker[bench]'")
    command = [program, "record", "--pid", str(pid), "--format", "raw", "--rate", str(RATE_HZ), "--nonblocking"]
    command += ["--idle", "--threads", "--duration", f"{duration_s:.0f}", "--output", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + RECORDING_SLACK_S, check=False)
    if done.returncode or not file.exists():
        raise WorkerError(f"py-spy failed: {done.stderr.strip()[-1000:]}")
    return file.read_text()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--duration", type=float, default=20.0, metavar="SECONDS")
    options.add_argument("--events", type=int, default=4_000_000, help="in the topic; must be enough for the recording")
    given = options.parse_args()
    with standing_aside(CONTENDERS_CORE):
        raw, events_per_s = record(Job(given.events, 1_000), given.duration)
    stacks = parse(raw)
    figures: dict[str, Any] = {
        "machine": machine_facts(), "seconds": given.duration, "samples": sum(stacks.values()),
        "events_per_s": events_per_s, "stages": stages(stacks, events_per_s),
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "flame.raw").write_text(collapsed(stacks))
    (RESULTS / "flame.json").write_text(json.dumps(figures, indent=2) + "\n")
    shares = {stage: each["share"] for stage, each in figures["stages"].items()}
    picture = ROOT / "docs" / "pictures" / "flame.svg"
    picture.parent.mkdir(exist_ok=True)
    icicle(boxes(stacks), shares, picture)
    for stage, each in figures["stages"].items():
        print(f"{stage:<30}{100 * each['share']:>8.1f} %{each['us']:>8.2f} µs/event")


if __name__ == "__main__":
    main()
