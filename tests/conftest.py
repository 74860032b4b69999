"""What tests share: one Kafka broker for the whole run, topics of their own, and waiting for a condition.

Rule: nothing sleeps for a fixed time; ``eventually`` polls with a deadline.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import signal
import sys
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import hypothesis
import pytest

from tests.command_line import command  # noqa: F401 (a fixture)
from tests.depth import DEEP
from tests.night import is_whole, left
from tests.order import SLOW, Groups, ordered
from worker.kafka.embedded.broker import EmbeddedKafka

Answer = TypeVar("Answer")
EVENTUALLY_TIMEOUT_S = 120.0
POLL_S = 0.05

JAVA_HOME = os.environ.get("JAVA_HOME")
NO_JAVA = str(Path(__file__).parent / "no_java")  # where Kafka is looked for first: it says who may start it, and ends

# A shell gives its background jobs an ignored SIGINT, which the processes under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class NewTopic(Protocol):
    def __call__(self, partitions: int = 1, prefix: str = "topic") -> str:
        """Create a topic; its name, which no other test has."""


def eventually(condition: Callable[[], Answer | None], timeout_s: float = EVENTUALLY_TIMEOUT_S) -> Answer:
    """Poll until the condition is true, and return what it answered; fail after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {getattr(condition, '__name__', condition)}; last: {answer!r}")
        time.sleep(POLL_S)
    return answer


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator[EmbeddedKafka]:
    """The run's broker. Who kills or pauses it brings it back (``restart``, ``resume``) before the test ends."""
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def bootstrap_servers(embedded_kafka: EmbeddedKafka) -> str:
    """``host:port`` of the run's broker."""
    return embedded_kafka.bootstrap_servers


@pytest.fixture(scope="session")
def topic(embedded_kafka: EmbeddedKafka) -> NewTopic:
    numbers = itertools.count(1)

    def create(partitions: int = 1, prefix: str = "topic") -> str:
        name = f"{prefix}-{next(numbers)}"
        embedded_kafka.create_topic(name, partitions)
        return name

    return create


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python reads its own schemas in a way that Python 3.11 alone calls deprecated, hundreds of times a run.

    How long a drawn case takes says more about what else the machine does than about the case.
    """
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")
    if sys.version_info < (3, 12):  # later ones remember a protocol's members; TensorFlow asks a thousand times a model
        members = vars(typing)["_get_protocol_attrs"]
        setattr(typing, "_get_protocol_attrs", functools.cache(members))  # noqa: B010


def pytest_collection_finish() -> None:
    """All that is imported stays: the collector need not look at TensorFlow's million objects again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """How tests are dealt to several processes."""
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks tests that ask for the broker, whose cases are drawn, and that are slow; then see ``night``, ``order``."""
    tonight = {*left(items)}
    for item in tonight:
        item.add_marker(pytest.mark.deep)
    if not DEEP and tonight and is_whole(config):
        config.hook.pytest_deselected(items=tonight)
        items[:] = [item for item in items if item not in tonight]
    for item in items:
        if "embedded_kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.deep)
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
    items[:] = ordered(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """No Kafka starts, here or in a process of the test, where it is not marked: before any fixture of the test."""
    home = JAVA_HOME if item.get_closest_marker("broker") else NO_JAVA
    if home is None:
        os.environ.pop("JAVA_HOME", None)
    else:
        os.environ["JAVA_HOME"] = home
