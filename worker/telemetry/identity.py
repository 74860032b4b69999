"""Who exports: the worker as its traces, metrics and logs name it."""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "rnn-stream-worker"  # where OTEL_SERVICE_NAME says nothing else


@dataclass(frozen=True, slots=True)
class Identity:
    """``instance`` tells it from the other members of ``group``; ``version`` is the worker's."""

    group: str
    instance: str
    version: str

    def attributes(self) -> dict[str, str]:
        """Of the resource, as far as the variables of OpenTelemetry say nothing else."""
        return {
            "service.name": SERVICE,
            "service.version": self.version,
            "service.instance.id": self.instance,
            "messaging.consumer.group.name": self.group,
        }
