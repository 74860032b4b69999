"""Every layer for which a model is refused, where the first one is known."""

from __future__ import annotations

import time
from typing import Any

from worker.assembly.model import import_modules
from worker.commands.check.two_ways import way_of
from worker.commands.printing import rounded
from worker.config.model import EncoderDecoder
from worker.config.sections import Config
from worker.errors import ModelRefusedError, WorkerError
from worker.model.files.loading import load_model
from worker.model.streaming import StreamingModel
from worker.model.survey import refusals
from worker.model.window.opening import fixed_length


def all_refusals(config: Config, first: ModelRefusedError) -> list[ModelRefusedError]:
    """Every layer that makes the worker refuse a model, so that nobody trains it again once per layer."""
    if isinstance(config.model.path, EncoderDecoder) or config.model.task == "seq2seq":
        return [first]  # most layers are refused on one side only
    try:
        modules = import_modules(config.model.imports)
        trained, _ = load_model(
            config.model.path, config.model.sha256, allow_lambda=config.model.allow_lambda, custom_objects=modules
        )
    except WorkerError:
        return [first]
    found = refusals(trained)
    second = first.second and f"{first.second}{_rate(trained)}"
    found = found if found and found[0].layer == first.layer else [first]
    return [each.with_second(second) for each in found]


def _rate(trained: Any) -> str:
    """How fast it is on windows here; "" where nobody knows which."""
    steps = fixed_length(trained)
    if steps is None:
        return ""
    measured = way_of(StreamingModel(trained, window=steps), time.perf_counter)
    return f" (about {rounded(measured.events_per_second)} events/s here)"
