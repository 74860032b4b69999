"""Lines of the log for whoever runs the worker: one per event, with partition, offset, stream and code as fields."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.one_member import AWAY, CHECKPOINT_S, COMMIT_S, DEAD, IN, P0, P1, Cluster, Member
from tests.sums import Sums, sums_pipeline
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.errors import MessageRefusedError
from worker.logs import fields_of
from worker.member.lines import KEY_CHARACTERS, REPEAT_INTERVAL_S, reason_in_log
from worker.records.events import Refusal
from worker.records.failing_rows import FailingRowsError


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def told(caplog: Any, words: str) -> list[dict[str, Any]]:
    """The fields of each line that says this."""
    return [fields_of(record) for record in caplog.records if words in record.getMessage()]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_refused_record_is_named_with_its_key_and_code(cluster: Cluster, caplog: Any) -> None:
    long = b"k" * KEY_CHARACTERS * 2
    cluster.write([(1, b"a", 1), (1, b"a", b"{"), (1, long, b"["), (1, None, 1), (1, b"\xff", 1)])
    member = Member(cluster)
    member.turn()
    where = {"topic": IN, "partition": 1}
    assert told(caplog, "record refused") == [
        {**where, "offset": 1, "key": "a", "error": "not_json"},
        {**where, "offset": 3, "error": "no_key"},
        {**where, "offset": 4, "key": "\N{REPLACEMENT CHARACTER}", "error": "not_utf8"},
    ]
    caplog.clear()
    cluster.write([(1, long, b"[")])
    member.turn(after_s=REPEAT_INTERVAL_S)
    assert told(caplog, "record refused") == [
        {**where, "offset": 5, "key": "k" * KEY_CHARACTERS, "error": "not_json", "kept_back": 1}
    ]
    member.close()


def test_no_line_shows_the_value_of_a_record(cluster: Cluster, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "secret-4711"
    values = [f'{{"y": "{secret}"}}', f'{{"x": "{secret}"}}', f'{{"x": 1, "y": "{secret}"', f'["{secret}"]', secret]
    cluster.write([(0, b"a", value.encode()) for value in values])
    member = Member(cluster)
    member.drain()
    assert len(cluster.dead()) == len(values)
    assert told(caplog, "record refused")
    assert secret not in caplog.text
    member.close()


class Asserting(Sums):
    """Says like TensorFlow what it does not compute."""

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        bad = np.flatnonzero(x[:, 0] == 4711)
        if len(bad):
            self.rows_computed += len(x)
            raise FailingRowsError({int(row): "assertion failed: [too big] [[[4711 1.25 -2.5e-07]]]" for row in bad})
        return super().step_packed(x, packed)


def test_neither_does_one_about_an_error_of_the_model(cluster: Cluster, caplog: Any) -> None:
    cluster.write([(0, b"a", 1), (0, b"a", 4711)])
    pipeline = sums_pipeline()
    pipeline.engine = Engine(Asserting(), pipeline.engine.table, BoundaryRules(), EmitRule())
    member = Member(cluster, pipeline)
    member.drain()
    (letter,) = cluster.broker.records(DEAD)
    assert b"[[[4711 1.25 -2.5e-07]]]" in (dict(letter.headers or ())["rnnw.reason"] or b"")
    (line,) = [each.getMessage() for each in caplog.records if "record refused" in each.getMessage()]
    assert "can't compute its answer: assertion failed: [too big] […]; the stream's state" in line
    assert "4711" not in caplog.text
    member.close()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("indices[0,0] = 99 is not in [0, 4)", "indices[…] = … is not in […, …)"),
        ("[x < 2:0] [Condition x<1] [1 2 3...]", "[x < …:…] [Condition x<…] […]"),
        ("Input is nan, -inf or 1e-3 in layer_7", "Input is …, … or … in layer_7"),
    ],
)
def test_numbers_in_what_a_model_says_are_left_out(reason: str, told: str) -> None:
    assert reason_in_log(Refusal(0, "model_error", reason)) == told
    joined = Refusal(0, "late", f"it is late; and model_error: {reason}")
    assert reason_in_log(joined) == f"it is late; and model_error: {told}"
    assert reason_in_log(Refusal(0, "late", reason)) == reason


def test_ownership_restores_and_replays_are_told_with_their_offsets(cluster: Cluster, caplog: Any) -> None:
    cluster.write([(0, b"a", 1), (0, b"a", 2), (1, b"b", 1)])
    first = Member(cluster)
    first.drain()
    first.checkpoint()
    cluster.write([(0, b"a", 4)])
    first.turn(after_s=COMMIT_S)
    first.crash()
    caplog.clear()
    second = Member(cluster)
    second.drain()
    assert told(caplog, "assigned: ") == [{"partitions": ["in/0", "in/1"]}]
    assert told(caplog, "from checkpoint at 2, 1 streams, replaying 1 offsets up to 3") == [
        {"topic": IN, "partition": 0, "offset": 2}
    ]
    assert {"topic": IN, "partition": 0, "offset": 3} in told(caplog, "is live at offset")
    second.close()


def test_a_checkpoint_that_fails_or_is_skipped_is_told_with_partition_and_offset(
    cluster: Cluster, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.write([(1, b"b", 1)])
    first = Member(cluster)
    first.drain()
    monkeypatch.setattr("os.replace", failing)
    first.turn(after_s=CHECKPOINT_S)
    first.turn()
    assert told(caplog, "checkpoint of in/1 at 1: ") == [
        {"topic": IN, "partition": 1, "offset": 1, "error": "checkpoint_failed"}
    ]
    monkeypatch.undo()
    first.checkpoint()
    first.crash()
    (file,) = cluster.folder.rglob("1/*.h5")
    file.write_bytes(b"damaged")
    second = Member(cluster)
    second.drain()
    assert told(caplog, "checkpoint skipped: ") == [{"topic": IN, "partition": 1, "offset": 1}]
    second.close()


def failing(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_whoever_waits_for_the_cluster_hears_when_it_is_back(cluster: Cluster, caplog: Any) -> None:
    member = Member(cluster)
    member.turn()
    cluster.broker.fail("poll", AWAY, times=3)
    for _ in range(3):
        member.turn(after_s=5)
    assert told(caplog, "nobody answers; resuming when it is back") == [{"error": "KafkaUnavailableError"}]
    assert not told(caplog, "resuming: ")
    member.turn(after_s=5)
    member.turn(after_s=5)
    assert [record.getMessage() for record in caplog.records if "resuming: " in record.getMessage()] == [
        "resuming: what did not answer is back after 15 s"
    ]
    member.close()


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_turn_that_is_rolled_back_is_told(cluster: Cluster, caplog: Any, exactly_once: bool) -> None:
    cluster.write([(0, b"a", 1)])
    member = Member(cluster, exactly_once=exactly_once)
    error = MessageRefusedError("no", too_large=True, topic="nowhere")
    cluster.broker.fail("commit_transaction" if exactly_once else "flush", error, 1)
    member.drain()
    assert told(caplog, "offsets are not committed now: no") == [{"error": "MessageRefusedError"}]
    assert told(caplog, "a turn was rolled back") == [{"partitions": [str(P0), str(P1)]}]
    member.close()


def test_a_stream_in_two_partitions_is_named(cluster: Cluster, caplog: Any) -> None:
    cluster.write([(0, b"both", 1), (1, b"both", 1)])
    member = Member(cluster, sums_pipeline())
    member.drain()
    assert told(caplog, "streams are live in two partitions") == [{"stream": "both"}]
    member.close()
