"""Which cases of a test are left to ``make test-deep``, where all of them run.

Before each commit a client is tried with one delivery where a test takes the product of both, and of lists of models
every so many: each kind stays, not each model of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Of each test in this file one case of so many runs before each commit.
ONE_OF = {
    "test_zoo.py": 3, "test_model_remedies.py": 3, "test_model_keras2.py": 3, "test_model_keras2_calls.py": 3,
    "test_pair_refusals.py": 3, "test_generation_crash_points.py": 3, "test_derivation.py": 2, "test_generative.py": 2,
    "test_encoder_decoder.py": 2, "test_published.py": 2,
}  # fmt: skip
DIAGONAL = {("kafka-python", "at_least_once"), ("confluent", "exactly_once")}


def is_whole(config: pytest.Config) -> bool:
    """Whether all tests were asked for: of those that somebody has chosen all cases run."""
    folder = config.invocation_params.dir
    return not config.option.keyword and all((folder / path).resolve() == TESTS for path in config.args)


def left(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Those of the items that only a night has time for."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    found: list[pytest.Item] = []
    for group in cases.values():
        number = ONE_OF.get(group[0].path.name, 1)
        found += [item for place, item in enumerate(group) if place % number]
        found += [item for item in group if pair_of(item) not in DIAGONAL] if is_product(group) else []
    return found


def pair_of(item: pytest.Item) -> tuple[object, object] | None:
    """(client, delivery) of the case, where it is given both."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    return (given["client"], given["delivery"]) if {"client", "delivery"} <= {*given} else None


def is_product(group: list[pytest.Item]) -> bool:
    """Whether these cases of a test take each client with each delivery."""
    return len({pair for item in group if (pair := pair_of(item))}) == 4
