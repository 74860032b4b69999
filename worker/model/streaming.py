"""A trained recurrent model as a pure step: ``(x, states) → (y, states')``. Nothing is remembered inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from warnings import catch_warnings

import numpy as np
from numpy.typing import ArrayLike

from worker.errors import StateShapeError, WorkerError, counted
from worker.model.backend import tf
from worker.model.building import LayerReport
from worker.model.explicit import ExplicitModel, build
from worker.model.facts import TrainedFacts, facts_of
from worker.model.files.loading import load_model
from worker.model.files.own import Objects
from worker.model.graph import first_line
from worker.model.inputs import InputPart
from worker.model.ports import OutputPart, input_words, output_words
from worker.model.proof.parity import Parity, check, measure
from worker.model.proof.samples import draw
from worker.model.step import PackedStep
from worker.model.vectors import SCAN, STEP, Inputs, vectors_of
from worker.records.arrays import BoolArray, FloatArray
from worker.records.states import Slices, StateLayout, StateSpec

# One array (batch, *shape) per entry of ``StreamingModel.states``, in order or as {layer: {name: array}}.
States: TypeAlias = Sequence[ArrayLike] | Mapping[str, Mapping[str, ArrayLike]]

PROOF_STEPS = 40
PROOF_STEPS_LIMIT = 400
TRIED_ROWS = 512  # at least, to find out what batches must be padded to


class StreamingModel:
    """The streaming form of a trained Keras model.

    Raises ModelRefusedError, naming the layer, for a model that can't be streamed. The trained model is copied: it
    stays as it is, and training it further changes nothing here. Several inputs are side by side in a step's vector,
    several outputs in its answer, as ``inputs`` and ``outputs`` say::

        model = StreamingModel.load("door.keras")  # or StreamingModel(keras_model)
        print(model.summary())  # each layer and how it runs on a step
        states = model.zero_states(batch=20)  # [(20, 32), (20, 32), (20, 16), (20, 16)]
        y, states = model.step(x, states)  # x (20, 3) → y (20, 1): after this step
        ys, states = model.scan(xs, states)  # xs (time, 20, 3) → ys (time, 20, 1): after each
        print(model.parity().max_abs_difference)

    ``states``        what there is to carry: layer, name, shape without the batch axis, dtype
    ``layers``        what became of each layer
    ``inputs``        of the trained model: name, columns of a step's vector, shape, whether constant per stream
    ``outputs``       of the trained model: name, columns of a step's answer, shape
    ``features``      width of one vector; 1 for a model of ids
    ``ids``           parts of a vector that are ids: (columns, they are whole numbers from 0 to below this)
    ``units``         numbers per output
    ``state_width``   numbers per packed row: all states of one stream, side by side
    ``dtype``         of packed rows: float32, or float64 when the model has float64
    ``layout``        the packed row: the two below and what numbers each state can hold
    ``slices``        (layer, name) → (slice of the packed row, shape)
    ``initial_row``   (state_width,) the packed row of a stream that has seen nothing: zeros, but for cells with an
                      initial state of their own
    ``sha256``        of the model's file; None when it came from memory
    """

    def __init__(self, keras_model: Any, *, sha256: str | None = None) -> None:
        self._original = keras_model
        # Keras warns of masks that a layer drops: it did so in training, too, and here the proof decides.
        with catch_warnings(action="ignore"):
            self._explicit: ExplicitModel = build(keras_model)
        self._packed = PackedStep(self._explicit)
        self.sha256 = sha256
        self.states: list[StateSpec] = self._explicit.states
        self.layers: list[LayerReport] = self._explicit.layers
        self.inputs: list[InputPart] = self._explicit.inputs
        self.outputs: list[OutputPart] = self._explicit.outputs
        self.features, self.units = self._explicit.features, self._explicit.units
        self.ids = tuple((part.columns, part.ids) for part in self._explicit.inputs if part.ids is not None)
        self.state_width: int = self._packed.state_width
        self.dtype = self._packed.dtype
        self.layout: StateLayout = self._packed.layout
        self.slices: Slices = self.layout.slices
        self.initial_row: FloatArray = self.layout.initial

    @property
    def trained(self) -> TrainedFacts:
        """What the trained model says about its training: window, batch, skipped steps, precision."""
        return facts_of(self._original, self._explicit.inputs)

    @classmethod
    def load(
        cls, path: str | Path, sha256: str | None = None, *, allow_lambda: bool = False, custom_objects: Objects = ()
    ) -> StreamingModel:
        """Read a `.keras` or legacy `.h5` file. With ``sha256`` any other file is refused before it is opened.

        ``allow_lambda`` lets Python code that the file holds in Lambda layers run: for files that you trust.
        ``custom_objects``: your own classes and functions by name, as Keras takes them, or modules that define them.
        Raises WorkerError when the file can't be used, ModelRefusedError when its model can't be streamed.
        """
        model, digest = load_model(Path(path), sha256, allow_lambda=allow_lambda, custom_objects=custom_objects)
        return cls(model, sha256=digest)

    def zero_states(self, batch: int) -> list[FloatArray]:
        """States of streams that have seen nothing: one array (batch, *shape) per entry of ``states``."""
        return self.unpack(np.broadcast_to(self.initial_row, (batch, self.state_width)))

    def step(self, x: Inputs, states: States) -> tuple[FloatArray, list[FloatArray]]:
        """x (batch, features), states before → y (batch, units), states after.

        Ids may also be (batch,). Several inputs may be given as the trained model takes them, without the time: by
        name, or as a list.
        Raises StateShapeError naming layer, wanted and given; ValueError for x.
        """
        vectors = vectors_of(x, self.inputs, STEP)
        y, after = self._packed.step(vectors, self.pack(states, len(vectors)))
        return np.array(y), self.unpack(after)

    def scan(self, xs: Inputs, states: States) -> tuple[FloatArray, list[FloatArray]]:
        """xs (time, batch, features), states before the first → ys (time, batch, units), states after the last."""
        vectors = vectors_of(xs, self.inputs, SCAN)
        ys, after = self._packed.scan(vectors, self.pack(states, vectors.shape[1]))
        return np.array(ys), self.unpack(after)

    def step_packed(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One step of n streams: x (n, features), packed (n, state_width) → y (n, units), packed after.

        A row's result depends neither on n nor on the row's place. The arrays returned are read-only.
        """
        return self._packed.step(x, packed)

    def scan_packed(
        self,
        xs: FloatArray,
        packed: FloatArray,
        resets: BoolArray | None = None,
        active: BoolArray | None = None,
        initial: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """As ``step_packed`` for xs (time, n, features) → ys (time, n, units), packed after the last step.

        ``resets`` (time, n): before these steps the row returns to ``initial``, (state_width,), if not given
        ``initial_row``. ``active`` (time, n): at other steps the row stays as it is, and ys are meaningless. With
        either, a row that was not finite after any step is NaN at the end.
        """
        return self._packed.scan(xs, packed, resets, active, self.initial_row if initial is None else initial)

    def warm_up(self, max_batch: int) -> bool:
        """Build the graphs and run them at small batches and the largest, so that no event waits for it.

        Finds the fewest rows that batches must be padded to here; returns whether a row's result is then independent of
        the others to the last bit. If not, a replay may differ from the earlier outputs by rounding.
        """
        vectors = self.samples(max(max_batch, TRIED_ROWS), 1)[:, 0]
        _, packed = self._packed.step(vectors, np.broadcast_to(self.initial_row, (len(vectors), self.state_width)))
        exact = self._packed.settle(vectors, packed)
        one = np.zeros((1, 1, self.features), self.dtype), self.initial_row[np.newaxis]
        self._packed.scan(*one)
        self._packed.scan(*one, resets=np.zeros((1, 1), np.bool_), initial=self.initial_row)
        return exact

    def pack(self, states: States, batch: int) -> FloatArray:
        """Arrays (batch, *shape), in order or by layer and name → packed rows (batch, state_width).

        Raises StateShapeError.
        """
        given = self._in_order(states) if isinstance(states, Mapping) else list(states)
        if len(given) != len(self.states):
            names = ", ".join(f"{spec.layer}.{spec.name}" for spec in self.states)
            nearest = self.states[min(len(given), len(self.states) - 1)].layer
            raise StateShapeError(nearest, f"{counted(len(self.states), 'state')} ({names})", f"{len(given)}")
        packed = np.empty((batch, self.state_width), self.dtype)
        for spec, value in zip(self.states, given, strict=True):
            array, wanted = np.asarray(value), (batch, *spec.shape)
            if array.shape != wanted:
                raise StateShapeError(spec.layer, f"{spec.name} {wanted}", f"{array.shape}")
            packed[:, self.slices[spec.layer, spec.name][0]] = array.reshape(batch, -1)
        return packed

    def unpack(self, packed: FloatArray) -> list[FloatArray]:
        """Packed rows (batch, state_width) → one new array (batch, *shape) per entry of ``states``."""
        arrays = []
        for spec in self.states:
            where, shape = self.slices[spec.layer, spec.name]
            dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype  # numpy has no bfloat16
            arrays.append(packed[:, where].astype(dtype).reshape(len(packed), *shape))
        return arrays

    def by_name(self, states: Sequence[ArrayLike]) -> dict[str, dict[str, ArrayLike]]:
        """A list of states as {layer: {name: array}}, the form of ``set-state`` records; ``step`` takes it, too."""
        named: dict[str, dict[str, ArrayLike]] = {}
        for spec, value in zip(self.states, states, strict=True):
            named.setdefault(spec.layer, {})[spec.name] = value
        return named

    def _in_order(self, states: Mapping[str, Mapping[str, ArrayLike]]) -> list[ArrayLike]:
        known = {(spec.layer, spec.name) for spec in self.states}
        for layer, parts in states.items():
            for name in parts:
                if (layer, name) not in known:
                    raise StateShapeError(layer, f"one of {', '.join(f'{a}.{b}' for a, b in sorted(known))}", name)
        for spec in self.states:
            if spec.name not in states.get(spec.layer, ()):
                raise StateShapeError(spec.layer, f"{spec.name} (batch, {str(spec.shape)[1:]}", "nothing")
        return [states[spec.layer][spec.name] for spec in self.states]

    def parity(self, sequences: int = 8, steps: int = 40, seed: int = 0) -> Parity:
        """Compare the streamed output after every step with the trained model on the same prefix; random sequences.

        Raises WorkerError when the trained model can't be run on them.
        """
        try:
            with catch_warnings(action="ignore"):
                return measure(self._original, self._explicit, self._packed, sequences, steps, seed)
        except (ValueError, TypeError, tf.errors.OpError) as error:  # Keras' and TensorFlow's own complaints
            raise WorkerError(f"parity: the trained model can't be run on a prefix ({first_line(error)})") from error

    def samples(self, sequences: int, steps: int, seed: int = 0) -> FloatArray:
        """Random sequences (sequences, steps, features) that the trained model takes, as the proof uses them."""
        return draw(self._original, self._explicit.inputs, sequences, steps, seed).vectors.astype(self.dtype)

    def check_parity(self, tolerance: float, sequences: int = 8, steps: int | None = None) -> Parity:
        """``parity``, or WorkerError naming the difference when it is above the tolerance or not a number."""
        return check(self.parity(sequences, steps or self.proof_steps), tolerance, self.trained.code)

    @property
    def proof_steps(self) -> int:
        """Steps after which every part of the states has been used: 40, or more for a long convolution."""
        rows = [spec.shape[0] for spec in self.states if len(spec.shape) == 2]
        return min(PROOF_STEPS_LIMIT, max(PROOF_STEPS, sum(rows) + PROOF_STEPS // 4))

    def to_keras(self) -> Any:
        """The explicit-state model [x (batch, 1, features), *states] → [y, *states]: an ordinary keras.Model."""
        return self._explicit.keras_model

    def summary(self) -> str:
        """One line per layer: its name, its kind, how it runs on a step, the states it has.

        Before them, where there are several inputs or outputs, which columns of a vector or an answer are whose.
        """
        rows = [
            (each.layer, each.kind, each.form, ", ".join(f"{state.name} {state.shape}" for state in each.states))
            for each in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        ports = [f"inputs: {input_words(self.inputs)}"] if len(self.inputs) > 1 else []
        ports += [f"outputs: {output_words(self.outputs)}"] if len(self.outputs) > 1 else []
        layers = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in [*ports, *layers])
