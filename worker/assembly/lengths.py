"""How long sequences may become: a model with a table of positions has no answer after the last of them."""

from __future__ import annotations

from worker.config.sections import Config
from worker.errors import ConfigError, counted


def check_length(config: Config, last_step: int | None) -> None:
    """``last_step`` as ``StreamingModel`` has it. Raises ConfigError where sequences may become longer."""
    length = config.sequence.length
    if last_step is not None and (length is None or length > last_step):
        given = "not set" if length is None else f"{length:,}"
        raise ConfigError(
            f"sequence.length: it is {given}, and the model has positions for {counted(last_step, 'step')} of a "
            f"sequence only; set sequence.length: {last_step} or less"
        )


def check_first_answer(config: Config, first_answer: int) -> None:
    """``first_answer`` as ``StreamingModel`` has it. Raises ConfigError where each sequence ends before it."""
    length = config.sequence.length
    if length is not None and length < first_answer:
        raise ConfigError(
            f"sequence.length: {length:,} ends each sequence before the model's first answer, after event "
            f"{first_answer:,}; set it to {first_answer} or more"
        )
