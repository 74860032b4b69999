"""The order in which tests are dealt to processes: nothing is lost, groups stay whole, waiting and computing mix."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from tests.order import DEALT_ONE_BY_ONE, MEASURED_S, SLOW, group_of, ordered

TESTS = Path(__file__).parents[1]


class Collected:
    """A test as pytest has collected it."""

    def __init__(self, file: str, number: int, waits: bool) -> None:
        self.path, self.nodeid, self._waits = Path("tests/room", file), f"tests/room/{file}::test_{number}", waits

    def get_closest_marker(self, name: str) -> object:
        return name if name == "broker" and self._waits else None


def collected() -> list[Any]:
    return [
        *(Collected("test_zoo.py", number, False) for number in range(40)),
        *(Collected("test_model_keras2.py", number, False) for number in range(30)),
        *(Collected("test_table.py", number, False) for number in range(100)),
        *(Collected("test_unwritable_topics.py", number, number > 0) for number in range(20)),
        *(Collected("test_kafka_python_transactions.py", number, True) for number in range(30)),
        *(Collected("test_replay.py", number, True) for number in range(5)),
    ]


def test_every_test_runs_once_and_groups_stay_whole() -> None:
    given = collected()
    found = ordered(given)
    assert sorted(item.nodeid for item in found) == sorted(item.nodeid for item in given)
    groups = [name for name, _ in groupby(found, lambda item: group_of(item.nodeid))]
    assert len(groups) == len(set(groups)) == 40 + 20 + len({"keras2", "table", "transactions", "replay"})


def test_the_longest_come_first() -> None:
    files = [file for file, _ in groupby(ordered(collected()), lambda item: item.path.name)]
    first = [files.index(file) for file in ("test_unwritable_topics.py", "test_kafka_python_transactions.py")]
    assert first == sorted(first)
    assert files.index("test_zoo.py") < files.index("test_model_keras2.py") < files.index("test_table.py")


def test_waiting_and_computing_tests_begin_at_once() -> None:
    found = ordered(collected())
    half = [item.path.name for item in found[: found.index(next(i for i in found if "keras2" in i.nodeid))]]
    assert 5 < half.count("test_unwritable_topics.py") < 20
    assert half.count("test_zoo.py") == 40


def test_files_that_are_named_are_there() -> None:
    files = {path.name for path in TESTS.rglob("test_*.py")}
    assert set(MEASURED_S) | DEALT_ONE_BY_ONE | SLOW <= files
