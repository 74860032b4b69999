"""From a configuration to what outputs repeat of their records."""

from __future__ import annotations

from worker.codecs.copying import Copier, Repeated
from worker.config.sections import Config
from worker.records.carried_headers import CarriedHeaders


def repeated(config: Config) -> Repeated:
    """For decoder and encoder."""
    output, read = config.output, config.input.format
    return Repeated(
        Copier(output.copied, read, output.format) if output.copied else None,
        CarriedHeaders(None if output.headers == "all" else frozenset(output.headers)),
    )
