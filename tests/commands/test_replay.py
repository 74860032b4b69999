"""``worker replay``: lines in, lines out, the same bytes each time; every output is the model on the prefix."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.sequences import by_stream, configuration, expected, make_log, save_model
from tests.sums import sums_pipeline
from worker.commands.replay.replaying import read_records, replay
from worker.commands.replay.writing import Writer
from worker.engine.boundaries import BoundaryRules
from worker.errors import WorkerError
from worker.records.ownership import Partition

TOPICS = ("readings", "probabilities", "readings.dead")
EVENTS, STREAMS = 600, 12


def line(key: str | None = "k", value: Any = None, **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, **more}


def run(lines: Iterable[Any], *, turn_records: int = 4096, dead: str | None = "dead", form: str = "json") -> list[Any]:
    """What the sums model makes of these lines (text as it stands, the rest as JSON)."""
    written = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines)
    out = io.BytesIO()
    records = read_records(io.BytesIO(written), "in.jsonl", "in", form)
    replay(sums_pipeline(BoundaryRules()), records, turn_records, Writer(out, "out", dead, "json"))
    return [json.loads(each) for each in out.getvalue().splitlines()]


def refused(lines: Iterable[Any], form: str = "json") -> str:
    with pytest.raises(WorkerError) as caught:
        run(lines, form=form)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def places(lines: Iterable[dict[str, Any]]) -> list[tuple[str, int, int]]:
    return [tuple(each["value"]["source"].values())[:3] for each in lines]


def test_offsets_count_up_per_partition_where_none_are_given() -> None:
    lines = [
        line(value={"x": 1}), line(value={"x": 1}, partition=3), line(value={"x": 1}),
        line(value={"x": 1}, offset=10), line(value={"x": 1}), line(value={"x": 1}, topic="more"),
        line(value={"x": 1}, partition=3),
    ]  # fmt: skip
    assert places(run(lines)) == [
        ("in", 0, 0), ("in", 3, 0), ("in", 0, 1), ("in", 0, 10), ("in", 0, 11), ("more", 0, 0), ("in", 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("turn_records", [1, 2, 3, 4096])
def test_the_order_of_the_output_is_the_order_of_the_input(turn_records: int) -> None:
    """Whatever the partitions and the size of a turn; outputs and dead letters alike."""
    lines = [
        line(f"k{index % 3}", {"x": index} if index % 4 else {"y": index}, partition=index % 2) for index in range(20)
    ]
    answers = run(lines, turn_records=turn_records)
    assert [answer["topic"] for answer in answers] == ["out" if index % 4 else "dead" for index in range(20)]
    assert [answer["key"] for answer in answers] == [f"k{index % 3}" for index in range(20)]
    assert [answer["value"] for answer in answers if answer["topic"] == "dead"] == [{"y": i} for i in range(0, 20, 4)]
    assert answers == run(lines)


def test_a_line_out_has_the_documented_fields() -> None:
    output, letter = run([line(value={"x": 2}, timestamp=5), line(value={"x": "2"}, headers={"trace": "1", "n": None})])
    assert list(output) == list(letter) == ["topic", "key", "value", "headers"]
    assert (output["topic"], output["headers"], output["value"]["time"]) == ("out", {}, 5)
    assert letter["headers"] == {
        "trace": "1",
        "n": None,
        "rnnw.error": "not_a_number",
        "rnnw.reason": "field 'x' (input.features) is a string, not a number",
        "rnnw.topic": "in",
        "rnnw.partition": "0",
        "rnnw.offset": "1",
        "rnnw.timestamp": "-1",
        "rnnw.group": "g",
        "rnnw.model": "0123456789ab",
        "rnnw.version": "0.0",
    }
    assert run([line(value={"y": 1})], dead=None) == []
    (traced,) = run([line(value={"x": 2}, headers={"trace": "1", "traceparent": "00-01"})])
    assert traced["headers"] == {"traceparent": "00-01"}


@pytest.mark.parametrize("value", [10**30, 2**64, -(2**63) - 1, "\ud800"])
def test_what_messagepack_does_not_hold_is_one_line(value: Any) -> None:
    assert refused([line(value={"x": 1, "y": value})], "msgpack").startswith(
        "in.jsonl: line 1: MessagePack can't hold this value ("
    )


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        (b'{"key": "\\ud800", "value": NaN}', "raw bytes come as key_base64"),
        (b'{"key": "k", "value": NaN, "headers": {"h": "\\udc00"}}', "leave this header out, headers are text here"),
        (b'{"key": "k", "value": NaN, "headers": {"\\udc00": ""}}', "leave this header out, headers are text here"),
    ],
    ids=["key", "header", "name of a header"],
)
def test_half_a_character_is_one_line(text: bytes, instead: str) -> None:
    assert refused([text]) == f"in.jsonl: line 1: half a surrogate pair is not text; {instead}"


def test_a_state_is_json_also_where_events_are_raw_numbers() -> None:
    (record,) = read_records(
        io.BytesIO(b'{"key": "k", "value": {"states": {}}, "headers": {"worker-command": "set-state"}}\n'),
        "in.jsonl",
        "in",
        "float32",
    )
    assert record.value == b'{"states": {}}'


def test_raw_bytes_come_and_go_as_base64() -> None:
    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    lines = [
        {"key_base64": text(b"k"), "value_base64": text(b'{"x": 1}')},
        {"key_base64": text(b"\xff"), "value": {"x": 1}},
        {"key": "k", "value_base64": text(b"\xfe\x00")},
        {"key": "k", "value_base64": text(b'{"y":\n1}')},
        {"key": "k", "value_base64": text(b"null")},
        {"key": "k", "value_base64": ""},
    ]
    answers = run(lines)
    assert answers[0]["key"] == "k"
    assert [[name for name in answer if name.startswith(("key", "value"))] for answer in answers[1:]] == [
        ["key_base64", "value"], *[["key", "value_base64"]] * 4,
    ]  # fmt: skip
    raw = [base64.b64decode(answer["value_base64"]) for answer in answers[2:]]
    assert raw == [b"\xfe\x00", b'{"y":\n1}', b"null", b""]
    errors = [answer["headers"]["rnnw.error"] for answer in answers[1:]]
    assert errors == ["not_utf8", "not_utf8", "field_missing", "not_an_object", "not_json"]


def test_nan_in_a_value_is_a_dead_letter_as_it_would_be_in_kafka() -> None:
    lines = [line(value={"x": 1}), b'{"key": "k", "value": {"x": NaN}}', b'{"key": "k", "value": {"x": -Infinity}}']
    answers = run([*lines, line(value={"x": 1})])
    assert [answer["headers"].get("rnnw.error") for answer in answers] == [None, "not_finite", "not_finite", None]
    assert answers[-1]["value"]["step"] == 2


@pytest.mark.parametrize(
    "value",
    [
        '{"x":1,"x":Infinity}',
        '{ "x" : NaN , "far": {"key": "value", "value": [1.50, 1e5, "\\u00e9"]} }',
        '{"value": "}, \\"value\\": 1", "x": -Infinity}',
        "NaN",
        '{"x": NaN, "n": ' + "9" * 5000 + "}",
        '{"x": NaN, "half": "\\ud800", "é": "😀"}',
    ],
)
@pytest.mark.parametrize(
    "around", ['{"key":"k","value":%s}', ' { "value"\t: %s , "key" : "k" } ', '{"value":1,"value":%s}']
)
def test_the_value_of_a_dead_letter_has_the_bytes_of_its_line(value: str, around: str) -> None:
    """Also of a line that is no JSON, only what Python writes: nothing in it is counted, left out or spaced anew."""
    (letter,) = run([(around % value).encode()])
    assert letter["topic"] == "dead"
    assert base64.b64decode(letter["value_base64"]).decode() == value


def test_a_raw_vector_that_is_not_finite_is_told_by_the_place_in_it(place: Any) -> None:
    folder, *_ = place
    settings = yaml.safe_load((folder / "worker.yaml").read_text())
    settings |= {"input": {"topic": "readings", "format": "float32"}, "sequence": {}}
    (folder / "raw.yaml").write_text(yaml.safe_dump(settings))
    vectors = ([1, np.nan, 3], [1, 2, -np.inf])
    given = [
        {"key": "s", "value_base64": base64.b64encode(np.array(each, "<f4").tobytes()).decode()} for each in vectors
    ]
    text = "".join(json.dumps(each) + "\n" for each in given)
    answer = command(folder, "-c", str(folder / "raw.yaml"), "--input", "-", "--output", "-", input=text)
    assert [json.loads(each)["headers"]["rnnw.reason"] for each in answer.stdout.splitlines()] == [
        "number 1 of the value is NaN", "number 2 of the value is infinite, or too large for the model's numbers",
    ]  # fmt: skip


def test_tombstones_and_commands() -> None:
    reset = line(value=None, headers={"worker-command": "reset"})
    answers = run(
        [line(value={"x": 1}), line(value={"x": 1}), reset, line(value={"x": 1}), line(), line(value={"x": 1})]
    )
    assert [(answer["value"]["step"], answer["value"]["reset"]) for answer in answers] == [
        (1, "new"), (2, None), (1, "command"), (1, "tombstone"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (b"no JSON", "in.jsonl: line 3: JSON is malformed"),
        (b"\xff\xfe", "in.jsonl: line 3: "),
        (b'{"key": "k", "value": {"x": 1}', "in.jsonl: line 3: Input data was truncated"),
        (b"[1]", "in.jsonl: line 3: Expected `object`, got `array`"),
        (b'{"key": 7, "value": {}}', "in.jsonl: line 3: Expected `str | null`, got `int` - at `$.key`"),
        (b'{"key": "k", "valeu": {}}', "in.jsonl: line 3: Object contains unknown field `valeu`"),
        (rb'{"key": "k", "a\n\u001b[31m": {}}', r"in.jsonl: line 3: Object contains unknown field `a\n\x1b[31m`"),
        (b'{"key": "k", "value": NaN, "key2": 1}', "in.jsonl: line 3: "),
        (b'{"key": "k", "partition": -1}', "in.jsonl: line 3: Expected `int` >= 0 - at `$.partition`"),
        (b'{"key": "k", "offset": -1}', "in.jsonl: line 3: Expected `int` >= 0 - at `$.offset`"),
        (b'{"key": "k", "timestamp": "now"}', "in.jsonl: line 3: Expected `int`, got `str` - at `$.timestamp`"),
        (b'{"key": "k", "value_base64": "?"}', "in.jsonl: line 3: value_base64: "),
        (b'{"key_base64": "?"}', "in.jsonl: line 3: key_base64: "),
        ('{"key_base64": "é", "value": {"x": 1}}'.encode(), "in.jsonl: line 3: key_base64: "),
        ('{"key": "k", "value_base64": "é"}'.encode(), "in.jsonl: line 3: value_base64: "),
        (b'{"key_base64": "\\ud800", "value": NaN}', "in.jsonl: line 3: key_base64: "),
        (b'{"value_base64": "\\ud800"}', "in.jsonl: line 3: "),
        (b'{"topic": "\\ud800", "key": "a", "value": NaN}', r"in.jsonl: line 3: '\ud800' is not a topic name ("),
        (b'{"topic": "\\ud800", "key": "a", "value": {"x": 1}}', "in.jsonl: line 3: "),
        ('{"topic": "ü/x", "key": "a"}'.encode(), r"in.jsonl: line 3: '\xfc/x' is not a topic name (letters"),
        (b'{"topic": "", "key": "a"}', "in.jsonl: line 3: '' is not a topic name ("),
        (b'{"topic": "..", "key": "a"}', "in.jsonl: line 3: '..' is not a topic name ("),
        (b'{"topic": "%b", "key": "a"}' % (b"t" * 250), "in.jsonl: line 3: 'ttt"),
        (b'{"key": "k", "offset": 9223372036854775807}', "in.jsonl: line 3: Expected `int` <= 9223372036854775806"),
        (
            b'{"key": "k", "offset": 9223372036854775806}\n{"key": "k"}',
            "in.jsonl: line 4: in/0 has no offset after 9223372036854775806",
        ),
        (b'{"key": "k", "value": ' + b"[" * 50_000, "in.jsonl: line 3: it is nested too deeply"),
        (b'{"key": "k", "offset": 0}', "in.jsonl: line 3: offset 0 of in/0 comes after 0; sort the lines"),
    ],
    ids=range(27),
)
def test_a_line_that_is_no_record_is_named(wrong: bytes, told: str) -> None:
    assert refused([line(value={"x": 1}), b"", wrong]).startswith(told)


def test_values_of_other_formats() -> None:
    records = list(read_records(io.BytesIO(b'{"key": "k", "value": {"x": [1, 2.5]}}\n'), "in", "t", "msgpack"))
    assert [msgspec.msgpack.decode(record.value or b"") for record in records] == [{"x": [1, 2.5]}]
    assert records[0].partition == Partition("t", 0)
    assert refused([line(value=[1.0])], "float32") == (
        "in.jsonl: line 1: input.format float32 takes raw bytes: give them as value_base64"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Any]:
    """(folder with configuration and model, log with its input file, a model that answers every prefix)."""
    folder = tmp_path_factory.mktemp("replay")
    every = save_model(folder / "model.keras")
    (folder / "worker.yaml").write_text(yaml.safe_dump(configuration(folder, "nowhere:1", "kafka-python", TOPICS)))
    log = make_log(EVENTS, STREAMS)
    with (folder / "in.jsonl").open("wb") as file:
        for index, (key, value) in enumerate(zip(log.keys, log.values, strict=True)):
            partition = int(key[-1:]) % 3
            file.write(json.dumps(line(key.decode(), json.loads(value), partition=partition)).encode() + b"\n")
            if index % 50 == 49:
                file.write(b'{"key": "device-000", "value": {"ax": 1}}\n')
    return folder, log, every


def command(folder: Path, *options: str, **more: Any) -> Any:
    from worker.commands.replay.command import replay

    return CliRunner().invoke(replay, ["-c", str(folder / "worker.yaml"), *options], **more)


def test_every_output_is_the_model_on_the_prefix_and_the_same_bytes_twice(place: Any) -> None:
    folder, log, every = place
    for name in ("first.jsonl", "second.jsonl"):
        answer = command(folder, "--input", str(folder / "in.jsonl"), "--output", str(folder / name))
        assert answer.exit_code == 0, answer.output
        assert answer.stderr == "612 records, 600 outputs, 12 refused\n"
    assert (folder / "first.jsonl").read_bytes() == (folder / "second.jsonl").read_bytes()
    lines = [json.loads(text) for text in (folder / "first.jsonl").read_text().splitlines()]
    assert [each["topic"] for each in lines] == [
        TOPICS[2] if index % 51 == 50 else TOPICS[1] for index in range(EVENTS + EVENTS // 50)
    ]
    outputs = [each["value"] for each in lines if each["topic"] == TOPICS[1]]
    wanted, steps = expected(log, every)
    assert [output["stream"].encode() for output in outputs] == log.keys
    assert [output["step"] for output in outputs] == steps
    assert [output["reset"] for output in outputs] == log.reasons
    assert {"new", "id", "start", "end", "gap"} <= set(log.reasons)
    assert np.abs(np.array([output["probabilities"] for output in outputs]) - wanted).max() <= 1e-5
    assert [output["label"] for output in outputs] == ["abc"[unit] for unit in wanted.argmax(axis=1)]
    finals = [index for index, output in enumerate(outputs) if output["final"]]
    assert finals == [index for index, value in enumerate(log.values) if b'"last": true' in value]
    assert len(by_stream(outputs)) == STREAMS


def test_standard_input_and_output(place: Any) -> None:
    folder, log, _ = place
    given = json.dumps(line("s", json.loads(log.values[0]))) + "\n"
    answer = command(folder, "--input", "-", "--output", "-", input=given)
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["key"] == "s"
    assert answer.stderr == "1 records, 1 outputs, 0 refused\n"


def test_outputs_repeat_what_they_are_told_to(place: Any) -> None:
    folder, log, _ = place
    settings = yaml.safe_load((folder / "worker.yaml").read_text())
    settings["output"] |= {"copy": ["site.name", "ax"], "headers": "all"}
    (folder / "copy.yaml").write_text(yaml.safe_dump(settings))
    value = {**json.loads(log.values[0]), "ax": 1, "site": {"name": "Nord"}}
    given = json.dumps(line("s", value, headers={"unit": "7", "none": None})) + "\n"
    answer = command(folder, "-c", str(folder / "copy.yaml"), "--input", "-", "--output", "-", input=given)
    (found,) = map(json.loads, answer.stdout.splitlines())
    assert found["headers"] == {"unit": "7", "none": None}
    assert found["value"]["fields"] == {"site.name": "Nord", "ax": 1}


def test_boundaries_by_length_and_idle(place: Any) -> None:
    folder, _, _ = place
    settings = yaml.safe_load((folder / "worker.yaml").read_text())
    settings |= {"sequence": {"length": 3}, "state": {"idle": "10s"}}
    (folder / "length.yaml").write_text(yaml.safe_dump(settings))
    times = [0, 1, 2, 3, 4, 20_000, 20_001, 20_002]
    text = "".join(json.dumps(line("s", {"ax": 1, "ay": 2, "az": 3, "time": time})) + "\n" for time in times)
    answer = command(folder, "-c", str(folder / "length.yaml"), "--input", "-", "--output", "-", input=text)
    found = [json.loads(each)["value"] for each in answer.stdout.splitlines()]
    assert [(each["step"], each["reset"], each["final"]) for each in found] == [
        (1, "new", False), (2, None, False), (3, None, True), (1, "length", False), (2, None, False),
        (1, "idle", False), (2, None, False), (3, None, True),
    ]  # fmt: skip


def test_what_would_pass_in_silence_is_told(place: Any) -> None:
    folder, _, _ = place
    settings = yaml.safe_load((folder / "worker.yaml").read_text()) | {"sequence": {"late": "drop"}}
    (folder / "late.yaml").write_text(yaml.safe_dump(settings))
    given = [line("s", {"ax": 1, "ay": 2, "az": 3, "time": time}) for time in (1000, 999, 1001)]
    given += [line("s", {"ax": 1, "ay": 2, "az": 3, "time": 1000}, partition=1), line("nobody", None)]
    text = "".join(json.dumps(each) + "\n" for each in given)
    answer = command(folder, "-c", str(folder / "late.yaml"), "--input", "-", "--output", "-", input=text)
    assert [json.loads(each)["value"]["step"] for each in answer.stdout.splitlines()] == [1, 2, 1]
    assert answer.stderr.splitlines() == [
        "5 records, 3 outputs, 0 refused",
        "1 events older than their stream's greatest event time (sequence.late: drop)",
        "1 tombstones or resets that name no known stream",
        "1 streams in two partitions of a topic, each with a state of its own",
    ]


def test_files_that_can_not_be_used(place: Any) -> None:
    folder, _, _ = place
    missing = command(folder, "--input", str(folder / "nothing.jsonl"), "--output", str(folder / "out.jsonl"))
    assert str(missing.exception) == f"{folder / 'nothing.jsonl'}: No such file or directory"
    nowhere = command(folder, "--input", str(folder / "in.jsonl"), "--output", str(folder / "no" / "out.jsonl"))
    assert str(nowhere.exception) == f"{folder / 'no' / 'out.jsonl'}: No such file or directory"
    before = (folder / "in.jsonl").read_bytes()
    same = command(folder, "--input", str(folder / "in.jsonl"), "--output", str(folder / "." / "in.jsonl"))
    assert "is the input too" in str(same.exception)
    assert (folder / "in.jsonl").read_bytes() == before
    assert {type(each.exception) for each in (missing, nowhere, same)} == {WorkerError}
