"""What ``make test`` leaves to ``make test-deep``: a part of the cases, never a test."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.night import DIAGONAL, ONE_OF, left

TESTS = Path(__file__).parents[1]
CLIENTS, DELIVERIES = ("kafka-python", "confluent"), ("at_least_once", "exactly_once")


def item(file: str, case: str = "", **given: Any) -> Any:
    made = SimpleNamespace(path=Path("tests/room", file), nodeid=f"tests/room/{file}::test_it{case}")
    if given:
        made.callspec = SimpleNamespace(params=given)
    return made


def test_of_lists_of_models_every_so_many_stays() -> None:
    models = [item("test_zoo.py", f"[{number}]", name=str(number)) for number in range(7)]
    assert [one.nodeid[-2] for one in models if one not in left(models)] == ["0", "3", "6"]
    assert (
        left([item("test_zoo.py"), item("test_table.py", "[1]", name="1"), item("test_table.py", "[2]", name="2")])
        == []
    )


def test_of_a_product_each_client_stays_with_one_delivery() -> None:
    cases = [
        item("test_topics.py", f"[{key}-{client}-{delivery}]", key=key, client=client, delivery=delivery)
        for key, client, delivery in product("ab", CLIENTS, DELIVERIES)
    ]
    stay = [one.callspec.params for one in cases if one not in left(cases)]
    assert [(given["key"], given["client"], given["delivery"]) for given in stay] == [
        (key, *pair) for key in "ab" for pair in sorted(DIAGONAL, reverse=True)
    ]


def test_pairs_that_a_test_has_chosen_stay() -> None:
    chosen = [("kafka-python", "exactly_once"), ("confluent", "at_least_once")]
    cases = [item("test_topics.py", f"[{a}-{b}]", client=a, delivery=b) for a, b in chosen]
    assert left(cases) == []


def test_files_that_are_named_are_there() -> None:
    assert set(ONE_OF) <= {path.name for path in TESTS.rglob("test_*.py")}
