"""What is wrong with ``kafka.security``, ``kafka.consumer`` and ``kafka.producer``, found by building the
clients they are for. Reaches no broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from worker.kafka.settings import SECTIONS, ClientSettings, Section
from worker.kafka.tls_files import wrong_files

RefusedValue: TypeAlias = Callable[[Section, str, Any], str | None]
RefusedClient: TypeAlias = Callable[[ClientSettings, Section], str | None]


def wrong_options(settings: ClientSettings, refused_value: RefusedValue, refused_client: RefusedClient) -> list[str]:
    """A line for each problem, that begins with the key's path."""
    if files := list(wrong_files(settings.security)):
        return files
    lines = (line for section in SECTIONS for line in _wrong(settings, section, refused_value, refused_client))
    return list(dict.fromkeys(lines))  # both sections report what is wrong with kafka.security


def _wrong(
    settings: ClientSettings, section: Section, refused_value: RefusedValue, refused_client: RefusedClient
) -> Iterator[str]:
    options: Mapping[str, Any] = getattr(settings, section)

    def refused(some: Mapping[str, Any]) -> str | None:
        consumer, producer = (some, {}) if section == "consumer" else ({}, some)
        return refused_client(replace(settings, consumer=consumer, producer=producer), section)

    values = {name: why for name, value in options.items() if (why := refused_value(section, name, value))}
    if not values and (together := refused(options)) is not None:
        values = {name: why for name, value in options.items() if (why := refused({name: value}))}
        if not values:
            where = "security" if refused({}) is not None else section
            yield f"kafka.{where}: {together}"
    yield from (f"kafka.{section}.{name}: {why}" for name, why in values.items())
