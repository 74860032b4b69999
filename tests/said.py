"""What a worker has said in a test: other threads of the process, such as a client of Kafka that another test
has left open, write into the same log whenever they like."""

import pytest

__all__ = ["said"]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of the worker's own loggers, oldest first."""
    return [record.getMessage() for record in caplog.records if record.name.partition(".")[0] == "worker"]
