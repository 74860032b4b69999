"""The two ways to run a model beside each other: what an event costs in each, and how much they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.commands.check.capacity import step_time
from worker.commands.printing import Lines, rounded, table
from worker.errors import ModelRefusedError, WorkerError
from worker.model.streaming import StreamingModel

COMPARED_ROWS = 256
COMPARED_SEQUENCES = 8
BEYOND_STEPS_LIMIT = 256  # events after the window is full


@dataclass(frozen=True, slots=True)
class Way:
    """``steps_per_event``: steps of the trained model's layers for each event, on average."""

    form: str
    steps_per_event: float
    events_per_second: float
    bytes_per_stream: int


@dataclass(frozen=True, slots=True)
class TwoWays:
    """``chosen`` runs. ``other``: None where the model has no other. ``difference``: the greatest between their answers
    to random sequences in the ``beyond`` events after the first ``window``; None where one of them does not stream.
    """

    chosen: Way
    other: Way | None
    window: int | None = None
    beyond: int = 0
    difference: float | None = None


def two_ways(model: StreamingModel, clock: Callable[[], float]) -> TwoWays:
    """Of a model on a window the streaming form beside it; of one trained on windows the window form."""
    chosen, other = way_of(model, clock), _other(model)
    if other is None:
        return TwoWays(chosen, None)
    streamed, windowed = (model, other) if model.window is None else (other, model)
    assert windowed.window is not None
    window = windowed.window.steps
    beyond = min(BEYOND_STEPS_LIMIT, 2 * window)
    found = None if streamed.waits else difference(streamed, windowed, window + beyond)
    return TwoWays(chosen, way_of(other, clock), window, beyond, found)


def way_of(model: StreamingModel, clock: Callable[[], float]) -> Way:
    """Measured here."""
    window = model.window
    steps = 1.0 if window is None else window.steps / window.every
    measured = step_time(model, COMPARED_ROWS, clock)
    form = "streaming" if window is None else "window"
    return Way(form, steps, measured.events_per_second, model.initial_row.nbytes)


def difference(streamed: StreamingModel, windowed: StreamingModel, steps: int) -> float:
    """The greatest difference after the window has been full."""
    assert windowed.window is not None
    xs = np.swapaxes(streamed.samples(COMPARED_SEQUENCES, steps), 0, 1)
    answers: list[Any] = [each.scan(xs, each.zero_states(COMPARED_SEQUENCES))[0] for each in (streamed, windowed)]
    beyond = np.ma.abs(answers[0] - answers[1])[windowed.window.steps :]
    return float(np.ma.max(beyond)) if beyond.size and np.ma.count(beyond) else 0.0


def told(ways: TwoWays) -> Lines:
    """The two beside each other, where there are two."""
    if ways.other is None:
        return
    rows = [
        (each.form, f"{each.steps_per_event:,.4g}", _rate(each), f"{each.bytes_per_stream:,}")
        for each in (ways.chosen, ways.other)
    ]
    yield from table("two ways", [("form", "steps per event", "here", "bytes per stream"), *rows])
    if ways.difference is not None:
        where = f"{ways.beyond:,} events after the first {ways.window:,} of random sequences"
        yield "", f"their answers differ by {ways.difference:.2g} at most in the {where}"


def _rate(way: Way) -> str:
    return f"{rounded(way.events_per_second)} events/s"


def _other(model: StreamingModel) -> StreamingModel | None:
    steps = model.trained.window
    if model.window is None and steps is None:
        return None
    try:
        other = StreamingModel(model._original, window=steps if model.window is None else None)
    except (ModelRefusedError, ValueError):
        return None
    same = (other.features, other.units) == (model.features, model.units)
    return other if same and _proven(other) else None


def _proven(model: StreamingModel) -> bool:
    try:
        return model.parity(2, model.proof_steps).within(1e-4)
    except WorkerError:
        return False
