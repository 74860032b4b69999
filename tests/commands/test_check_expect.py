"""``worker check --data``: what the features of a sample hold, and the file of ranges that ``model.expect`` names."""

from __future__ import annotations

import base64
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import Command, written
from tests.models import F, L, sequential
from worker.assembly.model import load_scoring
from worker.assembly.pipeline import build_scoring
from worker.assembly.watching import EXPECT_BYTES_LIMIT, expected_ranges, watched
from worker.commands.check.expect import FeatureRange, SampleReport, read_sample, write_ranges
from worker.config import load_config
from worker.engine.sampling import SAMPLED_COLUMNS
from worker.errors import ConfigError, WorkerError
from worker.model.backend import keras
from worker.records.ranges import Ranges

pytestmark = pytest.mark.zoo

AX = [0.5, -1.25, 3.0, 0.75]
ANEW = "write it anew: worker check -c FILE --data SAMPLE.jsonl --write-expect FILE"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    sequential(L.LSTM(4, name="memory"), L.Dense(2, activation="softmax")).save(folder / "good.keras")
    return folder


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Four events with AX, a reset, a record that is refused."""
    lines: list[dict[str, Any]] = [{"key": "a", "value": {"ax": ax, "ay": 2, "az": 0.1}} for ax in AX]
    lines += [{"key": "a", "value": {}, "headers": {"worker-command": "reset"}}, {"key": "a", "value": {"ax": 1e9}}]
    (tmp_path / "sample.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "sample.jsonl"


def test_what_is_written_is_what_the_worker_expects(command: Command, folder: Path, sample: Path) -> None:
    ranges = sample.with_name("ranges.json")
    # The configuration may name the file that is about to be written.
    config = written(folder, model__expect=str(ranges))
    ended = command("check", "-c", config, "--data", str(sample), "--write-expect", str(ranges))
    assert (ended.status, ended.err) == (0, "")
    assert "sample      4 events, 1 record refused\n" in ended.out
    assert f"expect      {ranges} is written: the ranges of 3 features\n" in ended.out
    file = json.loads(ranges.read_text())
    assert file["features"]["ax"] == {"low": min(AX), "high": max(AX)}
    assert file["features"]["ay"] == {"low": 2, "high": 2}
    assert (file["version"], file["events"], len(file["model"])) == (1, 4, 64)
    assert sorted(each.name for each in sample.parent.iterdir()) == ["ranges.json", "sample.jsonl"]

    assert file["features"]["az"]["high"] == float(np.float32(0.1))
    file["features"]["ax"]["high"] = 1.0  # by hand
    file["features"]["az"] = {"low": 0.1, "high": 0.1}  # which as float32 is another number
    ranges.write_text(json.dumps(file))
    ended = command("check", "-c", config, "--data", str(sample), "--json")
    report = json.loads(ended.out)
    assert (report["sample"]["events"], report["sample"]["refused"], report["expect_file"]) == (4, 1, None)
    ax, ay, az = report["sample"]["features"]
    assert (ax["name"], ax["low"], ax["high"], ax["mean"]) == ("ax", min(AX), max(AX), statistics.fmean(AX))
    assert ax["spread"] == pytest.approx(statistics.pstdev(AX))
    assert [each["outside"] for each in (ax, ay, az)] == [1 / 4, 0, 0]
    read = load_config(Path(config), {})
    expected = watched(read, load_scoring(read)).expected
    assert expected is not None
    assert expected.high.tolist() == [1.0, 2.0, 0.1]


def test_without_a_file_nothing_is_outside_or_inside(command: Command, folder: Path, sample: Path) -> None:
    ended = command("check", "-c", written(folder), "--data", str(sample))
    assert ended.status == 0
    rows = [line.split() for line in ended.out.splitlines() if line.split()[:1] in (["ax"], ["ay"], ["az"])]
    assert [row[-1] for row in rows] == ["-"] * F
    assert "is written" not in ended.out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read: No such file or directory"),
        ("{", "is not a file of ranges (Input data was truncated)"),
        (" " * (EXPECT_BYTES_LIMIT + 1), "is larger than 1,048,576 bytes, no file of ranges"),
        (
            json.dumps({"version": 1, "features": {"ax": {"low": 0, "high": 1}}}),
            "has ranges for 'ax', but the features are 'ax', 'ay', 'az'",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder: Path, tmp_path: Path, content: str | None, told: str) -> None:
    ranges = tmp_path / "ranges.json"
    if content is not None:
        ranges.write_text(content)
    config = load_config(Path(written(folder, model__expect=str(ranges))), {})
    with pytest.raises(ConfigError) as refused:
        expected_ranges(config, ["ax", "ay", "az"])
    assert str(refused.value) == f"model.expect: '{ranges}' {told}; {ANEW}"


def test_check_refuses_it_and_writing_it_anew_mends_it(command: Command, folder: Path, sample: Path) -> None:
    ranges = sample.with_name("ranges.json")
    config = written(folder, model__expect=str(ranges))
    ended = command("check", "-c", config)
    assert ended.status == 2
    assert ended.err == f"worker: {config}: model.expect: '{ranges}' can't be read: No such file or directory; {ANEW}\n"
    assert command("check", "-c", config, "--data", str(sample), "--write-expect", str(ranges)).status == 0
    assert command("check", "-c", config).status == 0


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (None, "--data {data}: No such file or directory; name a file of records, one JSON object a line"),
        ("", "--data {data}: it holds no event of the configured input (0 records refused); give records as"),
        (
            '{"key": "a", "value": {"ax": 1}}\n',
            "--data {data}: it holds no event of the configured input (1 record refused); give records as worker",
        ),
        ("{\n", "{data}: line 1: "),
    ],
)
def test_what_gives_no_ranges(folder: Path, tmp_path: Path, lines: str | None, told: str) -> None:
    data = tmp_path / "s.jsonl"
    if lines is not None:
        data.write_text(lines)
    config = load_config(Path(written(folder)), {})
    model = load_scoring(config)
    with pytest.raises(WorkerError) as refused:
        read_sample(config, model, build_scoring(config, model), data, None)
    assert str(refused.value).startswith(told.format(data=data))


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    ranges, sample = Ranges.nothing(1), SampleReport(1, 0, [FeatureRange("x", 0, 1, 0.5, 0.5, None)])
    (tmp_path / "ranges.json").mkdir()
    for target, why in (("nowhere/r.json", "No such file or directory"), ("ranges.json", "Is a directory")):
        file = tmp_path / target
        with pytest.raises(WorkerError) as refused:
            write_ranges(file, ranges, sample, None)
        assert str(refused.value) == f"--write-expect {file}: {why}; name a file in a folder that is there"
    assert [each.name for each in tmp_path.rglob("*")] == ["ranges.json"]


def test_usage(command: Command, folder: Path, tmp_path: Path) -> None:
    ended = command("check", "-c", written(folder), "--write-expect", "ranges.json")
    assert ended.status == 2
    assert "--write-expect: needs --data SAMPLE.jsonl, records to take the ranges from" in ended.err
    keys: dict[str, Any] = {"model__task": "generate", "model__vocabulary": ["a", "b"], "input": {"topic": "readings"}}
    ended = command("check", "-c", written(tmp_path, **keys), "--data", "s.jsonl")
    assert ended.status == 2
    assert "--data: is for task score, but model.task is generate" in ended.err


def names(folder: Path, **keys: Any) -> tuple[list[str], list[str], list[str]]:
    """What is watched: features, units, layers."""
    config = load_config(Path(written(folder, **keys)), {})
    found = watched(config, load_scoring(config))
    return list(found.features), list(found.units), list(found.layers)


def test_names_of_features_units_and_layers(folder: Path, tmp_path: Path) -> None:
    assert names(folder, model__labels=["no", "yes"]) == (["ax", "ay", "az"], ["no", "yes"], ["memory"])
    assert names(folder, input__features="x") == (["x[0]", "x[1]", "x[2]"], ["0", "1"], ["memory"])
    raw = {"input": {"topic": "readings", "format": "float32"}}
    assert names(folder, **raw)[0] == ["0", "1", "2"]
    x, device = keras.Input((None, 3), name="readings"), keras.Input((2,), name="device")
    second = L.LSTM(2, name="second")(L.GRU(4, return_sequences=True, name="first")(x))
    keras.Model([x, device], L.Concatenate()([second, device])).save(tmp_path / "good.keras")
    features = {"readings": ["ax", "ay", "az"], "device": "d"}
    assert names(tmp_path, input__features=features) == (
        ["ax", "ay", "az", "d[0]", "d[1]"], [str(number) for number in range(4)], ["first", "second"],
    )  # fmt: skip


def test_of_many_there_are_no_more_than_have_room(tmp_path: Path) -> None:
    sequential(L.SimpleRNN(40), features=48).save(tmp_path / "good.keras")
    features, units, _ = names(tmp_path, input__features="x")
    assert (len(features), len(units)) == (SAMPLED_COLUMNS, SAMPLED_COLUMNS)


def test_raw_vectors_have_ranges_by_number(command: Command, folder: Path, tmp_path: Path) -> None:
    value = base64.b64encode(np.array([1, 2, 3], "<f4").tobytes()).decode()
    (tmp_path / "s.jsonl").write_text(json.dumps({"key": "a", "value_base64": value}) + "\n")
    target = tmp_path / "ranges.json"
    config = written(folder, input={"topic": "readings", "format": "float32"})
    ended = command("check", "-c", config, "--data", str(tmp_path / "s.jsonl"), "--write-expect", str(target))
    assert ended.status == 0
    assert list(json.loads(target.read_text())["features"]) == ["0", "1", "2"]
