"""From a configuration to how Kafka is reached."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from worker.config.kafka import Security
from worker.config.sections import Config
from worker.errors import ConfigError
from worker.kafka.connection_options import contradicting_security
from worker.kafka.opening import refused_clients
from worker.kafka.options import contradicting_options, refused_options, why_refused
from worker.kafka.settings import SECTIONS, ClientSettings, transactional_id

RANDOM_ID_BYTES = 8


def client_settings(config: Config) -> ClientSettings:
    """How to reach Kafka. Raises ConfigError for client options that the worker must control itself."""
    kafka, security = config.kafka, _plain(config.kafka.security)
    problems: list[str] = []
    for section in SECTIONS:
        options = getattr(kafka, section)
        refused = refused_options(kafka.client, section, options)
        problems += [f"kafka.{section}.{name}: {why_refused(name)}" for name in refused]
        problems += contradicting_security(section, options, security)
    problems += contradicting_options(kafka.client, config.delivery, kafka.producer)
    if problems:
        raise ConfigError("\n".join(problems))
    # Without a name of its own the id is new each time, and Kafka ends its transaction after the time-out. With one, a
    # worker that starts again ends at once what its last run left open.
    member = kafka.instance_id or secrets.token_hex(RANDOM_ID_BYTES)
    return ClientSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        client=kafka.client,
        group_id=kafka.group_id,
        instance_id=kafka.instance_id,
        security=security,
        consumer=kafka.consumer,
        producer=kafka.producer,
        transactional_id=transactional_id(kafka.group_id, member) if config.delivery == "exactly_once" else None,
        written={config.dead_letters.topic or "": "dead_letters.topic", config.output.topic: "output.topic"},
    )


def check_clients(settings: ClientSettings) -> None:
    """Build the clients as far as that needs no broker. Raises ConfigError with a line for each option refused."""
    if problems := refused_clients(settings):
        raise ConfigError("\n".join(problems))


def _plain(security: Security) -> dict[str, Any]:
    """The given keys of ``kafka.security``, secrets in the clear: only the client sees the result."""
    values: dict[str, Any] = {"protocol": security.protocol}
    for name in security.model_fields_set - {"protocol"}:
        value = getattr(security, name)
        if value is not None and not name.endswith(("name_file", "password_file")):
            values[name] = value.get_secret_value() if isinstance(value, SecretStr) else value
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
