"""Only what is marked ``broker`` starts Kafka: from all other tests `tests/conftest.py` takes Java, and this is one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import NO_JAVA
from worker.errors import WorkerError
from worker.kafka.embedded import runtime
from worker.kafka.embedded.broker import EmbeddedKafka

SAYS = "whoever starts Kafka is marked broker"


def test_no_kafka_starts_without_the_mark() -> None:
    assert str(runtime.java()).startswith(NO_JAVA)
    with pytest.raises(WorkerError, match=SAYS):
        EmbeddedKafka().start()


def test_nor_does_it_in_a_process_of_the_test() -> None:
    command = [sys.executable, "-m", "worker", "kafka", "up"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, SAYS in ended.stderr) == (1, True), ended.stderr


@pytest.mark.broker
def test_with_the_mark_java_is_that_of_this_machine() -> None:
    assert not str(runtime.java()).startswith(NO_JAVA)
