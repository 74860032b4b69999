"""The two forms of a trained model behind a StreamingModel: rebuilt for one step, or as it is on a window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol
from warnings import catch_warnings

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.explicit import ExplicitModel, build
from worker.model.facts import TrainedFacts, facts_of
from worker.model.failing import computable
from worker.model.inputs import InputPart
from worker.model.proof.parity import Parity, measure
from worker.model.proof.samples import draw
from worker.model.step import PackedStep
from worker.model.window import export, proof
from worker.model.window.form import WindowForm
from worker.model.window.opening import open_model
from worker.model.window.second_way import with_second_way
from worker.model.window.window import Window
from worker.records.arrays import FloatArray

PROOF_STEPS = 40
PROOF_STEPS_LIMIT = 400
PROVEN_EVERY = 64  # at most: the steps of a proof grow with it
TRIED_ROWS = 512  # at least, to find out what batches must be padded to
TRIED_SEQUENCES, TRIED_STEPS = 64, 16


class Form(Protocol):
    """What a StreamingModel needs. ``explicit`` is what is known of it, ``packed`` computes."""

    explicit: ExplicitModel
    packed: Any

    @property
    def proof_steps(self) -> int:
        """Steps after which every part of the states has been used."""

    def measure(self, sequences: int, steps: int, seed: int) -> Parity:
        """Compare with the trained model."""

    def samples(self, sequences: int, steps: int, seed: int) -> FloatArray:
        """Random sequences that the trained model takes."""

    def warm_up(self, max_batch: int) -> bool:
        """Build the graphs; whether a row's result is independent of the others to the last bit."""

    def to_keras(self) -> Any:
        """The explicit-state model."""


class Streamed:
    """Rebuilt for one step. ``memory``: the steps that attention looks back over. Raises ModelRefusedError."""

    def __init__(self, original: Any, memory: int | None) -> None:
        self.original, self.memory = original, memory
        # Keras warns of masks that a layer drops: it did so in training, too, and here the proof decides.
        with catch_warnings(action="ignore"):
            self.explicit = build(original, memory)
        self.packed = PackedStep(self.explicit)

    @property
    def proof_steps(self) -> int:
        """40, or more where layers look far back or make few steps."""
        return min(PROOF_STEPS_LIMIT, max(PROOF_STEPS, self.explicit.memory_events + PROOF_STEPS // 4))

    def measure(self, sequences: int, steps: int, seed: int) -> Parity:
        """See Form."""
        return measure(self.original, self.explicit, self.packed, sequences, steps, seed)

    def samples(self, sequences: int, steps: int, seed: int) -> FloatArray:
        """See Form."""
        return draw(self.original, self.explicit.inputs, sequences, steps, seed).vectors

    def warm_up(self, max_batch: int) -> bool:
        """See Form."""
        packed, initial = self.packed, self.packed.layout.initial
        vectors = self.samples(max(max_batch, TRIED_ROWS), 1, 0)[:, 0].astype(packed.dtype)
        zero = np.broadcast_to(initial, (len(vectors), packed.state_width))
        vectors = vectors[computable(len(vectors), lambda rows: packed.step(vectors[rows], zero[rows]))]
        _, rows = packed.step(vectors, zero)
        sound = computable(len(vectors), lambda some: packed.step(vectors[some], rows[some]))
        vectors, rows = vectors[sound], rows[sound]
        exact = packed.settle(vectors, rows)
        one = np.zeros((1, 1, packed.features), packed.dtype), initial[np.newaxis]
        packed.scan(*one)
        packed.scan(*one, resets=np.zeros((1, 1), np.bool_), initial=initial)
        return exact

    def to_keras(self) -> Any:
        """See Form."""
        return self.explicit.keras_model


class Windowed:
    """As it is, on the last events. Raises ModelRefusedError for a model that can't be run on such windows."""

    def __init__(self, original: Any, window: Window) -> None:
        self.original = original
        with catch_warnings(action="ignore"):
            self.packed = WindowForm(open_model(original, window.steps), window)
        self._proven = self.packed
        if window.every > PROVEN_EVERY:  # it says which answers are given, and these are the same
            self._proven = WindowForm(self.packed.opened, replace(window, every=PROVEN_EVERY))
        self.explicit = self.packed.facts()
        self._keras: Any = None

    @property
    def proof_steps(self) -> int:
        """See Form."""
        return proof.proof_steps(self._proven)

    def measure(self, sequences: int, steps: int, seed: int) -> Parity:
        """See Form."""
        return proof.measure(self.original, self._proven, sequences, steps, seed)

    def samples(self, sequences: int, steps: int, seed: int) -> FloatArray:
        """See Form."""
        return proof.samples(self.original, self.packed.inputs, sequences, steps, seed)

    def warm_up(self, max_batch: int) -> bool:
        """See Form."""
        vectors = self.samples(TRIED_SEQUENCES, TRIED_STEPS, 0).astype(self.packed.dtype)
        return self.packed.settle(vectors.reshape(-1, self.packed.features))

    def to_keras(self) -> Any:
        """See Form."""
        if self._keras is None:
            self._keras = export.to_keras(self.packed)
        return self._keras


def form_of(original: Any, window: Window | None, memory: int | None) -> Form:
    """Raises ModelRefusedError; of a model that can't be streamed it ends with the second way, a window."""
    if window is not None:
        return Windowed(original, window)
    try:
        return Streamed(original, memory)
    except ModelRefusedError as refusal:
        raise with_second_way(refusal, original) from refusal


def trained_facts(original: Any, parts: list[InputPart], window: Window | None) -> TrainedFacts:
    """Of a model that hides its layers, which runs on a window, nothing is known."""
    try:
        return facts_of(original, parts)
    except ModelRefusedError:
        if window is None:
            raise
        return TrainedFacts(window=None, batch=None, stateful=(), skipped=(), half=(), code=())
