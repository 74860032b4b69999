"""What ``worker check`` tells: of the model, of its training, of this machine."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import Command, written
from tests.models import L, door, sequential
from worker.assembly.model import unforeseen_as_one_line
from worker.commands.check.advice import Advice, Room, advice, size
from worker.commands.check.capacity import free_memory_bytes, step_times
from worker.commands.problems import Problem, problem_of
from worker.config.sections import Config
from worker.errors import ConfigError, ModelRefusedError, WorkerError
from worker.model.backend import keras
from worker.model.facts import SkippedSteps, TrainedFacts, facts_of
from worker.model.graph import graph_of
from worker.model.inputs import assignments
from worker.model.streaming import StreamingModel

pytestmark = pytest.mark.zoo

TIMEOUT_S = 300
NOTHING = TrainedFacts(window=None, batch=None, stateful=(), skipped=(), half=(), code=())
ROOM = Room(capacity_bytes=500, free_bytes=1000, streams_that_fit=20)


def facts(model: Any) -> TrainedFacts:
    return facts_of(model, next(iter(assignments(graph_of(model)))))


def configured(**sections: Any) -> Config:
    given = {"input": {"topic": "a", "features": "x"}, "output": {"topic": "b"}, "model": {"path": "m.keras"}}
    return Config.model_validate({**given, **sections})


@pytest.mark.filterwarnings("ignore:Layer 'inside'")  # a Lambda drops the mask: nothing is run here
def test_what_a_model_says_about_its_training() -> None:
    assert facts(sequential(L.Masking([0, 1.5, -1]), L.GRU(2))).skipped[0].value == [0.0, 1.5, -1.0]
    assert facts(door(None)) == NOTHING
    assert facts(door()) == replace(NOTHING, window=7)
    found = facts(door(stateful=True))
    assert (found.window, found.batch, len(found.stateful)) == (7, 20, 2)
    masked = sequential(L.Masking(-1.0, name="padding"), L.LSTM(3, dtype="mixed_float16", name="memory"), length=5)
    assert facts(masked) == TrainedFacts(5, None, (), (SkippedSteps("padding", -1.0),), ("memory",), ())
    words = keras.Sequential(
        [
            keras.Input((9,), batch_size=4),
            L.Embedding(5, 2, mask_zero=True, name="words"),
            keras.Sequential(
                [L.Lambda(lambda x: x, name="code"), L.LSTM(3, stateful=True, name="memory")], name="inside"
            ),
        ]
    )
    assert facts(words) == TrainedFacts(9, 4, ("inside.memory",), (SkippedSteps("words", None),), (), ("inside.code",))
    x, device = keras.Input((6, 3)), keras.Input((4,))
    two = keras.Model([x, device], L.Concatenate()([L.GRU(2)(x), device]))
    assert facts(two).window == 6


@pytest.mark.parametrize(
    ("trained", "sections", "wanted"),
    [
        ({}, {}, ["note: no boundary is configured (section sequence): a stream's state never returns to zero"]),
        ({}, {"sequence": {"gap": "30s"}}, []),
        ({"window": 7}, {"sequence": {"length": 7}}, []),
        ({"window": 7}, {"sequence": {"id": "run"}}, []),
        ({"window": 7}, {}, ["warning: trained on windows of 7 steps, and no boundary is configured"]),
        (
            {"window": 7},
            {"sequence": {"length": 20}},
            ["warning: trained on windows of 7 steps, but sequence.length is 20: the state of events 8 to 20 has seen"],
        ),
        (
            {"window": 7},
            {"sequence": {"length": 5}},
            ["warning: trained on windows of 7 steps, but sequence.length is 5: the state returns to zero before"],
        ),
        (
            {"window": 1, "batch": 20, "stateful": ("one", "two")},
            {},
            [
                "note: no boundary is configured",
                "note: trained in batches of 20: that doesn't matter here",
                "note: layers 'one', 'two' with stateful=True: that doesn't matter here",
            ],
        ),
        (
            {"skipped": (SkippedSteps("padding", 0.0), SkippedSteps("words", None), SkippedSteps("end", [0.0, -1.0]))},
            {"sequence": {"length": 7}},
            [
                "warning: layer 'padding' (Masking) skips every event whose numbers are all 0:",
                "warning: layer 'words' (Embedding with mask_zero=True) skips every event of id 0:",
                "warning: layer 'end' (Masking) skips every event whose numbers are [0.0, -1.0]:",
            ],
        ),
        (
            {"half": ("a", "b", "c", "d")},
            {"sequence": {"length": 7}},
            ["warning: layers 'a', 'b', 'c', … computed in half precision: "],
        ),
        ({"half": ("a",)}, {"sequence": {"length": 7}, "model": {"path": "m", "parity_tolerance": 0.01}}, []),
        (
            {},
            {"sequence": {"length": 7}, "delivery": "exactly_once"},
            ["note: delivery: exactly_once without kafka.instance_id: after a crash the worker that takes over waits"],
        ),
        ({}, {"sequence": {"length": 7}, "delivery": "exactly_once", "kafka": {"instance_id": "one"}}, []),
        *[
            (
                {},
                {"sequence": {"length": 7}, "input": {"topic": "a", "features": "x", "stream": stream}},
                [f"note: streams are named by {words}: the producers must partition by it, too. Where records"],
            )
            for stream, words in (
                ("device", "field 'device' of the value"),
                ("header:id", "the record's header 'id'"),
                ("key:id", "field 'id' of the record's key, which is JSON"),
            )
        ],
        ({"code": ("twice",)}, {"sequence": {"length": 7}}, ["warning: layer 'twice' (Lambda) is Python code"]),
    ],
)
def test_advice(trained: dict[str, Any], sections: dict[str, Any], wanted: list[str]) -> None:
    found = advice(configured(**sections), replace(NOTHING, **trained), ROOM)
    lines = [*(f"warning: {line}" for line in found.warnings), *(f"note: {line}" for line in found.notes)]
    assert len(lines) == len(wanted)
    for line, start in zip(lines, wanted, strict=True):
        assert line.startswith(start)


def test_more_streams_than_memory() -> None:
    config = configured(sequence={"length": 7}, state={"max_streams": 3_000_000})
    assert advice(config, NOTHING, Room(3 << 30, 4 << 30, 4_000_000)) == Advice()
    assert advice(config, NOTHING, Room(3 << 30, None, None)) == Advice()
    (warning,) = advice(config, NOTHING, Room(3 << 30, 2 << 30, 2_000_000)).warnings
    assert warning.startswith(
        "state.max_streams: 3,000,000 streams of a partition need 3 GiB, but 2 GiB are free here; set it to 2,000,000"
    )


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 << 20, 3 << 40, 1 << 52)] == [
        "0 B", "1,023 B", "1.5 KiB", "5 MiB", "3 TiB", "4,096 TiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "wanted_kib"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}, 8000),
        ({"proc/meminfo": "nonsense\n", "proc/self/cgroup": "0::/\n"}, None),
        (
            {
                "proc/meminfo": "MemAvailable: 8000 kB\n",
                "proc/self/cgroup": "0::/kubepods/pod7\n",
                "proc/self/status": "VmRSS:  500 kB\n",
                "sys/fs/cgroup/kubepods/pod7/memory.max": "max\n",
                "sys/fs/cgroup/kubepods/memory.max": f"{2000 * 1024}\n",
            },
            1500,
        ),
        # A container that does not see the path the kernel names: its own root is its limit.
        (
            {
                "proc/self/cgroup": "0::/../other\n",
                "proc/self/status": "VmRSS: 500 kB\n",
                "sys/fs/cgroup/memory.max": f"{400 * 1024}\n",
            },
            0,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 8000 kB\n",
                "proc/self/cgroup": "9:cpu:/\n4:memory:/docker/1\n0::/\n",
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{3000 * 1024}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            3000,
        ),
    ],
    ids=["unknown", "machine", "no limit", "version 2", "version 2, another root", "version 1"],
)
def test_free_memory(tmp_path: Path, files: dict[str, str], wanted_kib: int | None) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert free_memory_bytes(tmp_path) == (None if wanted_kib is None else wanted_kib * 1024)


def test_step_times_are_medians_of_a_bounded_number_of_calls() -> None:
    seconds = iter(np.arange(0, 1000, 0.05))  # every look at the clock finds it 50 ms later
    found = step_times(StreamingModel(door()), lambda: float(next(seconds)))
    assert [step.batch for step in found] == [1, 256, 4096]
    assert [round(step.seconds, 6) for step in found] == [0.05] * 3
    assert [round(step.events_per_second) for step in found] == [20, 5120, 81920]
    assert next(seconds) < 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    door().save(folder / "door.keras")
    return folder


def test_the_report(command: Command, trained: Path) -> None:
    file = written(trained, "door.keras", state__max_streams=2000)
    report = json.loads(command("check", "-c", file, "--json").out)
    assert [list(layer) for layer in report["layers"]] == [["layer", "kind", "form", "states"]] * len(report["layers"])
    assert (report["ok"], report["features"], report["units"]) == (True, 3, 1)
    assert report["trained"]["window"] == 7
    assert report["capacity_bytes"] == 2000 * (report["bytes_per_stream"] + report["overhead_bytes"])
    assert [step["batch"] for step in report["step_times"]] == [1, 256, 4096]
    assert all(step["seconds"] > 0 for step in report["step_times"])
    assert "sequence.length: 7" in report["warnings"][0]
    text = command("check", "-c", file)
    assert (text.status, text.err) == (0, "")
    labels = [line[:12].strip() for line in text.out.splitlines() if not line.startswith(" ")]
    assert labels[:7] == ["model", "sha-256", "trained on", "stream", "time", "layers", "states"]
    assert "\nstream      the record's key; a field of that name would be value:key\n" in text.out
    assert report["time"] == "the record's own timestamp; a field of that name would be value:timestamp"
    assert {"per stream", "capacity", "speed", "proof", "warning"} <= set(labels)
    assert "2,000 streams of a partition (state.max_streams) take " in text.out
    assert text.out.endswith("\nok: this model streams\n")
    quiet = command("check", "-c", written(trained, "door.keras", sequence__length=7))
    assert "warning" not in quiet.out + quiet.err
    warmed = command("check", "-c", written(trained, "door.keras", sequence__length=7, state__warm="10m"))
    assert "note        state.warm: 10m of each partition's log are replayed before it is answered: at" in warmed.out


def test_a_model_that_fails_the_proof(command: Command, trained: Path) -> None:
    model = sequential(L.LSTM(4), L.Dense(2))
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    model.save(trained / "spoilt.keras")
    ended = command("check", "-c", written(trained, "spoilt.keras"))
    assert (ended.status, ended.err.count("\n"), "spoilt.keras: streamed outputs" in ended.err) == (1, 1, True)
    assert "proof       FAILED: " in ended.out
    assert "refused     streamed outputs differ by nan" in ended.out
    text = command("check", "-c", written(trained, "spoilt.keras"), "--json").out
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (report["ok"], report["parity"]["max_abs_difference"]) == (False, None)
    assert ended.out.endswith("\nnot ok: a worker with this configuration would refuse to start\n")


def test_code_that_fails_the_proof_is_blamed(command: Command, trained: Path) -> None:
    """And not the tolerance, with which the wrong numbers would be taken."""
    layers = [L.LSTM(4, return_sequences=True), L.Lambda(lambda v: keras.ops.mean(v, axis=1), name="magnitude")]
    sequential(*layers, L.Dense(1), length=7).save(trained / "code.keras")
    ended = command("check", "-c", written(trained, "code.keras", model__allow_lambda=True), "--json")
    (problem,) = json.loads(ended.out)["problems"]
    assert (
        "'magnitude' (Lambda) may look at how long the sequence is, or at other steps; replace it by layers of Keras"
        in problem["instead"]
    )
    assert "parity_tolerance" not in problem["instead"]


def test_an_error_that_nobody_has_foreseen_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKER_TRACEBACK", raising=False)
    with pytest.raises(WorkerError) as told, unforeseen_as_one_line("proven", configured()):
        raise IndexError("list index out of range\nmore")
    assert str(told.value).startswith(
        "model m.keras: it can't be proven, because of an unexpected error: "
        "IndexError: list index out of range (test_check_command.py, line "
    )
    assert problem_of(told.value).instead == "report it with the traceback that WORKER_TRACEBACK=1 shows"
    with pytest.raises(ConfigError, match="as it is"), unforeseen_as_one_line("proven", configured()):
        raise ConfigError("as it is")
    monkeypatch.setenv("WORKER_TRACEBACK", "1")
    with pytest.raises(IndexError), unforeseen_as_one_line("proven", configured()):
        raise IndexError


def test_what_to_do_is_told_apart_from_why_whatever_a_message_of_others_holds() -> None:
    error = WorkerError("model m.keras: it is damaged (two; parts)", "fetch it again")
    assert str(error) == "model m.keras: it is damaged (two; parts); fetch it again"
    assert problem_of(error) == Problem("", "model m.keras: it is damaged (two; parts)", "fetch it again")
    layer = problem_of(ModelRefusedError("both", "it needs the end; all of it", "make it causal"))
    assert (layer.what, layer.instead) == ("layer 'both': it needs the end; all of it", "make it causal")


def test_all_layers_in_the_way_are_told(command: Command, trained: Path) -> None:
    both_ways = L.Bidirectional(L.GRU(4, return_sequences=True), name="both_ways")
    sequential(both_ways, L.Flatten(name="all_steps"), L.Dense(2), length=7).save(trained / "two.keras")
    file = written(trained, "two.keras")
    report = json.loads(command("check", "-c", file, "--json").out)
    assert [problem["layer"] for problem in report["problems"]] == ["both_ways", "all_steps"]
    text = command("check", "-c", file).out
    assert [line[:12].strip() for line in text.splitlines()[1:-1]] == ["refused", "instead"] * 2


MODULE = """
import keras

print("importing")

def doubled(x):
    return 2 * keras.ops.tanh(x)
"""


def test_modules_are_imported_before_the_file_is_opened(tmp_path: Path) -> None:
    """In a process of its own, because what is imported stays. Nothing is registered with Keras, as in most files."""
    (tmp_path / "my_functions.py").write_text(MODULE)
    make = (
        "import my_functions, keras; L = keras.layers; "
        "keras.Sequential([keras.Input((None, 3)), L.LSTM(4), L.Dense(2, activation=my_functions.doubled)])"
        ".save('model.keras')"
    )
    environ = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", make], check=True, timeout=TIMEOUT_S, cwd=tmp_path, env=environ)

    def checked(**keys: Any) -> subprocess.CompletedProcess[str]:
        # As the console script runs it: the current directory is not on the path by itself.
        program = "import sys; sys.path.remove(''); sys.argv[0] = 'worker'; from worker.__main__ import main; main()"
        file = written(tmp_path, "model.keras", **keys)
        arguments = [sys.executable, "-c", program, "check", "-c", file, "--json"]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=tmp_path, env=environ)

    without = checked()
    assert without.returncode == 1
    (problem,) = json.loads(without.stdout)["problems"]
    assert "name the module that defines it in model.imports" in problem["instead"]
    done = checked(model__imports=["my_functions"])
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done.stdout + done.stderr
    assert done.stderr == "importing\n"


@pytest.mark.parametrize(
    ("source", "name", "told"),
    [
        (None, "no_such_module", "model.imports.0: module 'no_such_module' is neither installed nor in {folder}"),
        (None, "no_such.module", "model.imports.0: module 'no_such' is neither installed nor in {folder}"),
        (
            "import nothing_of_that_name",
            "needs_more",
            "model.imports.0: 'needs_more' needs the module 'nothing_of_that",
        ),
        ("1 / 0", "divides", "model.imports.0: 'divides' can't be imported: ZeroDivisionError: division by zero (div"),
        ("def f(:", "broken", "model.imports.0: 'broken' can't be imported: SyntaxError: "),
        ("import sys; sys.exit(3)", "leaves", "model.imports.0: 'leaves' can't be imported: SystemExit: 3 (leaves.py"),
    ],
)
def test_modules_that_can_not_be_imported(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | None,
    name: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    file = written(tmp_path, model__imports=[name])
    for arguments in (["check"], ["export", "--output", "step.keras"], ["check", "--json"]):
        ended = command(arguments[0], "-c", file, *arguments[1:])
        assert (ended.status, ended.out) == (2, "")
        assert ended.err.startswith(f"worker: {file}: {told.format(folder=tmp_path)}")
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_no_line_is_too_long(trained: Path, columns: int) -> None:
    file = written(trained, "door.keras", model__path="door.keras")
    leader, follower = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb"}
    command = [sys.executable, "-m", "worker", "check", "-c", file]
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with subprocess.Popen(command, stdout=follower, stderr=follower, cwd=trained, env=environ) as process:
        os.close(follower)
        said = b""
        while piece := read(leader):
            said += piece
    os.close(leader)
    lines = said.decode().replace("\r", "").splitlines()
    assert process.returncode == 0
    assert lines[-1] == "ok: this model streams"
    assert max(map(len, lines)) <= columns


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other side has closed
        return b""


@pytest.mark.parametrize(("client", "name"), [("kafka-python", "compression_type"), ("confluent", "compression.type")])
def test_options_that_the_client_refuses(command: Command, trained: Path, client: str, name: str) -> None:
    file = written(trained, "door.keras", kafka__client=client, kafka__producer={name: "brotli"})
    ended = command("check", "-c", file)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"kafka.producer.{name}: {client} refuses it: " in ended.err
