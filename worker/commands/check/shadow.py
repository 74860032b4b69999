"""What ``worker check`` says of the second model."""

from __future__ import annotations

from worker.assembly.shadow import prove_shadow, shadow_config
from worker.assembly.text_model import model_name
from worker.config.sections import Config
from worker.records.names import short_digest


def told_shadow(config: Config) -> str:
    """One line of what it costs. Raises WorkerError, ModelRefusedError, ConfigError where it can't be used."""
    model = prove_shadow(config)
    name = model_name(shadow_config(config))
    return (
        f"shadow: {name} ({short_digest(model.sha256)}) follows with {model.initial_row.nbytes:,} bytes more of state "
        f"per stream, and a step of its own for each event; its outputs go to topic '{config.shadow.topic}'"
    )
