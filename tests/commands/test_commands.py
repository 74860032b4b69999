"""What users meet when they type: exit statuses, refusals that say what, where and what to do, never a traceback."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Command, written

TIMEOUT_S = 300
COMMAND = [sys.executable, "-m", "worker"]


def typed(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a user types it."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, cwd=cwd)
    assert "Traceback" not in done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: good.keras (3 features, 2 units), bidirectional.keras, lambda.keras; garbage.keras is none."""
    from tests.models import L, sequential

    folder = tmp_path_factory.mktemp("models")
    sequential(L.LSTM(4, name="memory"), L.Dense(2, activation="softmax")).save(folder / "good.keras")
    sequential(L.Bidirectional(L.GRU(4), name="both_ways"), L.Dense(2)).save(folder / "bidirectional.keras")
    sequential(L.GRU(4), L.Lambda(lambda x: x * 2, name="twice"), L.Dense(2)).save(folder / "lambda.keras")
    (folder / "garbage.keras").write_bytes(b"not a model")
    (folder / "a-folder").mkdir()
    return folder


@pytest.mark.parametrize(
    "arguments",
    [[], ["run"], ["check"], ["replay"], ["export"], ["demo"], ["kafka"], ["kafka", "up"], ["kafka", "down"]],
    ids=" ".join,
)
def test_every_help_has_an_example(command: Command, arguments: list[str]) -> None:
    ended = command(*arguments, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert "worker " + (" ".join(arguments) if arguments != ["kafka"] else "kafka up") in ended.out.split("Usage:")[1]
    assert ("Example" in ended.out) == (arguments != [])
    assert command(*arguments, "-h").out == ended.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runn"], "No such command 'runn'. Did you mean 'run'?"),
        (["--nope"], "No such option '--nope'"),
        (["run"], "Missing option '-c' / '--config'"),
        (["run", "worker.yaml"], "Missing option '-c' / '--config'"),
        (["run", "-c"], "Option '-c' requires an argument"),
        (["run", "-c", "a.yaml", "b.yaml"], "Got unexpected extra argument (b.yaml)"),
        (["check", "-c", "a.yaml", "--jsn"], "No such option '--jsn'"),
        (["replay", "-c", "a.yaml"], "Missing option '--input'"),
        (["replay", "-c", "a.yaml", "--input", "in.jsonl"], "Missing option '--output'"),
        (["export", "-c", "a.yaml"], "Missing option '--output'"),
        (["export", "-c", "a.yaml", "--output", "step.h5"], "'step.h5' should end in .keras"),
        (["kafka", "upp"], "No such command 'upp'"),
        (["demo", "--speed", "fast"], "Invalid value for '--speed'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_status_2(command: Command, arguments: list[str], told: str) -> None:
    ended = command(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert told in ended.err
    assert "Usage: worker" in ended.err or "requires an argument" in ended.err


def test_a_place_for_checkpoints_that_can_never_be_one_is_told_by_check(command: Command, tmp_path: Path) -> None:
    for directory, told in (
        ("nope://x", "nope:// can't be used (ValueError: Protocol not known: nope); use a folder or a URL such as"),
        ("file://elsewhere/x", "'file://elsewhere/x' names another machine; a folder is file:///path"),
    ):
        ended = command("check", "-c", written(tmp_path, state__directory=directory))
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert ended.err.startswith(f"worker: state.directory: {told}")


def test_without_a_command_the_help_is_shown(command: Command) -> None:
    ended = command()
    assert ended.status == 2
    assert "worker demo  " in ended.err


@pytest.mark.parametrize("name", ["run", "check", "replay", "export"])
def test_wrong_configuration_is_status_2_with_the_keys_path(command: Command, tmp_path: Path, name: str) -> None:
    more = {"replay": ["--input", "in.jsonl", "--output", "out.jsonl"], "export": ["--output", "step.keras"]}.get(
        name, []
    )
    nowhere = tmp_path / "nothing.yaml"
    ended = command(name, "-c", str(nowhere), *more)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"worker: {nowhere}: can't be read: No such file or directory\n"
    file = written(tmp_path, sequence__gap="10 parsecs", http__prt=1)
    ended = command(name, "-c", file, *more)
    assert (ended.status, ended.out) == (2, "")
    assert sorted(ended.err.removeprefix("worker: ").splitlines()) == [
        f"{file}: http.prt: unknown key (did you mean http.port?)",
        f"{file}: sequence.gap: '10 parsecs' is not a duration (write 250ms, 30s, 10m or 24h)",
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"input__format": "avro"}, "input.format: avro is not available yet (use json, msgpack or float32)"),
        ({"output__score": "forecast"}, "output.score: forecast is not available yet (leave it out)"),
    ],
)
def test_what_is_not_there_yet_is_said(command: Command, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    file = written(tmp_path, **keys)
    ended = command("check", "-c", file)
    assert (ended.status, ended.err) == (2, f"worker: {file}: {told}\n")


@pytest.mark.parametrize("name", ["run", "check"])
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"kafka__consumer": {"enable_auto_commit": True, "fetch_max_bytes": 1}},
            "kafka.consumer.enable_auto_commit: the worker sets this itself; remove it",
        ),
        (
            {"kafka__client": "confluent", "kafka__producer": {"acks": 1, "linger.ms": 5}},
            "kafka.producer.acks: the worker sets this itself; remove it",
        ),
    ],
    ids=["kafka-python", "confluent"],
)
def test_client_options_that_the_worker_controls_are_refused(
    command: Command, tmp_path: Path, name: str, keys: dict[str, Any], told: str
) -> None:
    file = written(tmp_path, **keys)
    ended = command(name, "-c", file)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == f"worker: {file}: {told}"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"input__features": ["ax", "ay"]}, "input.features: names 2 fields, but {model} takes 3 numbers"),
        ({"model__labels": ["a", "b", "c"]}, "model.labels: 3 names for 2 outputs of {model}"),
        (
            {"input__features": "x", "input__stream": "value:x"},
            "input.stream: 'x' is the field with the vector (input.features); name another one",
        ),
        (
            {"input__features": ["ax", "value:ay", "ay"]},
            "input.features: 'value:ay' and 'ay' are the same field; name it once",
        ),
        (
            {"sequence__start": "edge", "sequence__end": "value:edge"},
            "sequence.end: 'value:edge' is sequence.start too; one field can't mark both",
        ),
        (
            {"sequence__start": "edge", "sequence__end": "edge"},
            "sequence.end: 'edge' is sequence.start too; one field can't mark both",
        ),
        (
            {"sequence__start": r"value:a\\b", "sequence__end": r"a\b"},
            r"sequence.end: 'a\b' is sequence.start too; one field can't mark both",
        ),
        (
            {"sequence__id": ".".join("abcdefghijklmnopq")},
            "sequence.id: a path has at most 16 names, this one 17",
        ),
        (
            {"output__copy": ["a.b", r"value:a\.b"]},
            r"output.copy: 'a.b' and 'value:a\.b' would both be 'a.b' in the output; name one of them",
        ),
        (
            {"output__copy": [".".join("abcdefghijklmnopq")]},
            "output.copy: a path has at most 16 names, this one 17",
        ),
        (
            {"input__features": "x", "input__time": "x"},
            "input.time: 'x' is the field with the vector (input.features); name another one",
        ),
    ],
)
def test_configuration_that_does_not_fit_the_model(
    command: Command, folder: Path, keys: dict[str, Any], told: str
) -> None:
    file = written(folder, **keys)
    ended = command("check", "-c", file)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"worker: {file}: {told.format(model=folder / 'good.keras')}\n"


@pytest.mark.parametrize(
    ("model", "layer", "told"),
    [
        ("nothing.keras", "", "no such file"),
        ("a-folder", "", "this is a folder"),
        ("garbage.keras", "", "this is not a Keras model file"),
        ("bidirectional.keras", "both_ways", "steps that have not arrived yet"),
        ("lambda.keras", "twice", "its Python code comes from the file and is not run"),
    ],
)
def test_models_that_can_not_be_streamed(command: Command, folder: Path, model: str, layer: str, told: str) -> None:
    file = written(folder, model)
    as_text, as_json = command("check", "-c", file), command("check", "-c", file, "--json")
    replayed = command("replay", "-c", file, "--input", "/dev/null", "--output", str(folder / "out.jsonl"))
    assert (as_text.status, as_json.status, replayed.status) == (1, 1, 1)
    report = json.loads(as_json.out)
    assert report["ok"] is False
    (problem,) = report["problems"]
    assert list(problem) == ["layer", "why", "instead"]
    assert problem["layer"] == layer
    assert told in problem["why"]
    assert problem["instead"]
    assert told in as_text.out
    assert layer in as_text.out
    for ended in (as_text, as_json, replayed):
        assert ended.err.startswith("worker: ")
        assert (ended.err.count("\n"), told in ended.err, layer in ended.err) == (1, True, True)
    assert not (folder / "out.jsonl").exists()


def test_check_reports_what_a_program_needs(command: Command, folder: Path) -> None:
    ended = command("check", "-c", written(folder), "--json")
    assert (ended.status, ended.err) == (0, "")
    report = json.loads(ended.out)
    assert report["ok"] is True
    assert report["problems"] == []
    assert report["sha256"] == hashlib.sha256((folder / "good.keras").read_bytes()).hexdigest()
    assert report["states"] == [
        {"layer": "memory", "name": name, "shape": [4], "dtype": "float32"} for name in ("h", "c")
    ]
    assert report["bytes_per_stream"] == 2 * 4 * 4
    assert [layer["kind"] for layer in report["layers"]] == ["LSTM", "Dense"]
    assert 0 <= report["parity"]["max_abs_difference"] <= report["parity"]["tolerance"] == 1e-4
    assert (report["parity"]["sequences"], report["parity"]["steps"]) == (8, 40)
    assert "never returns to zero" in report["notes"][0]


def test_another_file_than_the_pinned_one_is_refused(command: Command, folder: Path) -> None:
    digest = hashlib.sha256((folder / "good.keras").read_bytes()).hexdigest()
    assert command("check", "-c", written(folder, model__sha256=digest)).status == 0
    ended = command("check", "-c", written(folder, model__sha256="0" * 64))
    assert (ended.status, ended.err.count("\n"), ended.err.count("good.keras")) == (1, 1, 1)
    assert f"its SHA-256 is {digest}, model.sha256 says {'0' * 64}" in ended.out


def test_a_tolerance_that_is_not_kept_is_refused(command: Command, folder: Path) -> None:
    ended = command("check", "-c", written(folder, model__parity_tolerance=0), "--json")
    report = json.loads(ended.out)
    # Some models are streamed to the very bit: what counts is that status, verdict and difference agree.
    assert report["ok"] == (report["parity"]["max_abs_difference"] == 0)
    assert ended.status == (0 if report["ok"] else 1)


def test_as_processes(folder: Path) -> None:
    """The statuses that a shell sees, and a reader that has seen enough."""
    assert typed("--version").stdout.startswith("worker, version ")
    refused = typed("check", "-c", written(folder, "bidirectional.keras"))
    assert (refused.returncode, refused.stderr.count("\n"), "'both_ways'" in refused.stderr) == (1, 1, True)
    head = f"{sys.executable} -m worker check -c {written(folder)} | head -1"
    done = subprocess.run(["bash", "-c", head], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.stdout == f"model       {folder / 'good.keras'}\n"
    assert done.stderr == ""


def test_a_reader_that_has_seen_enough_of_a_replay(folder: Path) -> None:
    row = json.dumps({"key": "k", "value": {"ax": 1, "ay": 2, "az": 3}}) + "\n"
    (folder / "in.jsonl").write_text(row * 5000)
    file = written(folder)
    pipe = f"{sys.executable} -m worker replay -c {file} --input {folder / 'in.jsonl'} --output - | head -1"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert json.loads(done.stdout)["key"] == "k"
    assert done.stderr == ""


def test_run_refuses_what_no_retry_would_mend(folder: Path) -> None:
    blocked = folder / "a-file"
    blocked.write_text("")
    done = typed("run", "-c", written(folder, state__directory=str(blocked / "state")))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"worker: state.directory: can't write to '{blocked / 'state'}': Not a directory; ")
    done = typed("run", "-c", written(folder, "garbage.keras"))
    assert done.returncode == 1
    assert "this is not a Keras model file" in done.stderr.splitlines()[-1]


def test_where_lines_are_json_the_last_one_is_too(folder: Path) -> None:
    blocked = folder / "another-file"
    blocked.write_text("")
    done = typed("run", "-c", written(folder, state__directory=str(blocked / "state"), log__format="json"))
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert (told[-1]["level"], told[-1]["error"]) == ("critical", "WorkerError")
    assert told[-1]["message"].startswith(f"state.directory: can't write to '{blocked / 'state'}': Not a directory; ")


def test_a_client_that_says_the_same_again_and_again_is_heard_once_a_minute(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fixture is here for what it restores."""
    from worker.logs import configure_logs

    configure_logs("json", "info")

    def said(name: str, second: float, message: str, *values: object) -> None:
        logger = logging.getLogger(name)
        record = logger.makeRecord(name, logging.WARNING, "", 0, message, values, None)
        record.created, record.msecs = second, second % 1 * 1000
        logger.handle(record)

    for second in (0.0, 0.1, 59.0, 61.0):
        said("kafka.net.manager", second, "Bootstrap %s not ready; waiting %.2f secs", "bootstrap-0", second)
        said("worker.kafka", second, f"FAIL: refused (after {second}ms)")
        said("worker.loop", second, "record refused")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"].split(".")[-1], line["time"][17:]) for line in lines] == [
        ("manager", "00.000Z"), ("kafka", "00.000Z"), ("loop", "00.000Z"), ("loop", "00.100Z"), ("loop", "59.000Z"),
        ("manager", "01.000Z"), ("kafka", "01.000Z"), ("loop", "01.000Z"),
    ]  # fmt: skip
