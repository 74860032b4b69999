"""A trained recurrent model as a pure step: ``(x, states) → (y, states')``. Nothing is remembered inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
from numpy.typing import ArrayLike

from worker.errors import WorkerError
from worker.model.backend import tf
from worker.model.building import table
from worker.model.facts import TrainedFacts
from worker.model.failing import reason_of
from worker.model.files.loading import load_model
from worker.model.files.own import Objects
from worker.model.forms import Form, form_of, trained_facts
from worker.model.inputs import whole_columns
from worker.model.output_ends import output_ends
from worker.model.packing import States, masked, pack, unpack
from worker.model.ports import input_words, output_words
from worker.model.proof.parity import Parity, check
from worker.model.tracing import with_graph
from worker.model.vectors import SCAN, STEP, Inputs, vectors_of
from worker.model.window.window import Fill, Window
from worker.records.arrays import BoolArray, FloatArray
from worker.records.names import identity_of
from worker.records.states import Slices, StateLayout


class StreamingModel:
    """The streaming form of a trained Keras model.

    Raises ModelRefusedError, naming the layer, for a model that can't be streamed. The trained model is copied: it
    stays as it is, and training it further changes nothing here. With ``window=128`` it is the window form: the model
    itself, not copied, on the last 128 events; ``window_fill`` and ``every`` are as in the configuration.
    Several inputs are side by side in a step's vector, several outputs in its answer, as ``inputs`` and ``outputs``
    say::

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
    ``wholes``        parts that are other whole numbers: (columns, the smallest, the largest that is held exactly)
    ``units``         numbers per output
    ``state_width``   numbers per packed row: all states of one stream, side by side
    ``dtype``         of packed rows: float32, or float64 when the model has float64
    ``layout``        the packed row: the two below and what numbers each state can hold
    ``slices``        (layer, name) → (slice of the packed row, shape)
    ``initial_row``   (state_width,) the packed row of a new stream: zeros, but for cells with an initial state
    ``window``        what it runs on, ``Window(steps, fill, every)``; None in the streaming form
    ``waits``         whether some events have no answer yet: ``step`` and ``scan`` then give masked arrays
    ``first_answer``  the number of the event of a sequence, from 1, that is answered first
    ``exact_steps``, ``last_step``  up to here answers are the trained model's, and it has any; None: without end
    ``sha256``        of the model's file; None when it came from memory
    """

    def __init__(
        self,
        keras_model: Any,
        *,
        sha256: str | None = None,
        window: int | None = None,
        window_fill: Fill = "wait",
        every: int = 1,
        memory: int | None = None,
    ) -> None:
        self._original = keras_model = with_graph(keras_model) if window is None else keras_model
        self.window = None if window is None else Window(window, window_fill, every)
        self._form: Form = form_of(keras_model, self.window, memory)
        self._explicit = explicit = self._form.explicit
        self._packed, self.sha256 = self._form.packed, sha256
        self.states, self.layers = explicit.states, explicit.layers
        self.inputs, self.outputs = explicit.inputs, explicit.outputs
        self.features, self.units = explicit.features, explicit.units
        self.waits, self.first_answer = explicit.waits, explicit.first_answer
        self.exact_steps, self.last_step = explicit.exact_steps, explicit.last_step
        self.state_width, self.dtype = int(self._packed.state_width), self._packed.dtype
        self.ids = tuple((part.columns, part.ids) for part in self.inputs if part.ids is not None)
        self.wholes = whole_columns(self.inputs, self.dtype)
        self.layout: StateLayout = self._packed.layout
        self.slices: Slices = self.layout.slices
        self.initial_row: FloatArray = self.layout.initial

    @property
    def trained(self) -> TrainedFacts:
        """What the trained model says about its training: window, batch, skipped steps, precision."""
        return trained_facts(self._original, self._explicit.inputs, self.window)

    @property
    def output_ends(self) -> FloatArray:
        """(units, 2) the lowest and the highest number that each unit can answer; infinite where there is none."""
        return output_ends(self._original, self.outputs)

    @property
    def identity(self) -> str:
        """The digest, and the form where it is not the streaming one: what states belong to."""
        return identity_of(self.sha256 or "", None if self.window is None else self.window.words)

    @classmethod
    def load(
        cls,
        path: str | Path,
        sha256: str | None = None,
        *,
        allow_lambda: bool = False,
        custom_objects: Objects = (),
        **form: Any,
    ) -> StreamingModel:
        """Read a `.keras` or legacy `.h5` file, also at a URL, such as s3://bucket/door.keras#SHA256.

        With ``sha256``, also in the URL, any other file is refused before it is opened.

        ``allow_lambda`` lets Python code that the file holds in Lambda layers run: for files that you trust.
        ``custom_objects``: your own classes and functions by name, as Keras takes them, or modules that define them.
        ``form``: ``window`` and the like, as StreamingModel takes them.
        Raises WorkerError when the file can't be used, ModelRefusedError when its model can't be streamed.
        """
        model, digest = load_model(path, sha256, allow_lambda=allow_lambda, custom_objects=custom_objects)
        return cls(model, sha256=digest, **form)

    def zero_states(self, batch: int) -> list[FloatArray]:
        """States of streams that have seen nothing: one array (batch, *shape) per entry of ``states``."""
        return self.unpack(np.broadcast_to(self.initial_row, (batch, self.state_width)))

    def step(self, x: Inputs, states: States) -> tuple[FloatArray, list[FloatArray]]:
        """x (batch, features), states before → y (batch, units), states after; of a model that ``waits``, y is masked
        where there is no answer yet.

        Ids may also be (batch,). Several inputs may be given as the trained model takes them, without the time: by
        name, or as a list.
        Raises StateShapeError naming layer, wanted and given; ValueError for x.
        """
        vectors = vectors_of(x, self.inputs, STEP, self.wholes)
        y, after = self._packed.step(vectors, self.pack(states, len(vectors)))
        return masked(y, self.waits), self.unpack(after)

    def scan(self, xs: Inputs, states: States) -> tuple[FloatArray, list[FloatArray]]:
        """xs (time, batch, features), states before the first → ys (time, batch, units), states after the last."""
        vectors = vectors_of(xs, self.inputs, SCAN, self.wholes)
        ys, after = self._packed.scan(vectors, self.pack(states, vectors.shape[1]))
        return masked(ys, self.waits), self.unpack(after)

    @property
    def rows_computed(self) -> int:
        """In all packed steps so far, the rows that fill blocks up too."""
        return int(self._packed.rows_computed)

    def step_packed(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One step of n streams: x (n, features), packed (n, state_width) → y (n, units), packed after.

        Of a model that ``waits``, y has a column more, the last: 1 where there is an answer, else 0 as all of y. A
        row's result depends neither on n nor on the row's place. The arrays returned are read-only.
        """
        return self._packed.step(x, packed)  # type: ignore[no-any-return]

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
        initial = self.initial_row if initial is None else initial
        return self._packed.scan(xs, packed, resets, active, initial)  # type: ignore[no-any-return]

    def warm_up(self, max_batch: int) -> bool:
        """Build the graphs and run them at small batches and the largest, so that no event waits for it.

        Finds the fewest rows that batches must be padded to here; returns whether a row's result is then independent of
        the others to the last bit. If not, a replay may differ from the earlier outputs by rounding.
        """
        return self._form.warm_up(max_batch)

    def pack(self, states: States, batch: int) -> FloatArray:
        """Arrays (batch, *shape), in order or by layer and name → packed rows (batch, state_width).

        Raises StateShapeError.
        """
        return pack(states, batch, self.states, self.layout, self.dtype)

    def unpack(self, packed: FloatArray) -> list[FloatArray]:
        """Packed rows (batch, state_width) → one new array (batch, *shape) per entry of ``states``."""
        return unpack(packed, self.states, self.layout)

    def by_name(self, states: Sequence[ArrayLike]) -> dict[str, dict[str, ArrayLike]]:
        """A list of states as {layer: {name: array}}, the form of ``set-state`` records; ``step`` takes it, too."""
        named: dict[str, dict[str, ArrayLike]] = {}
        for spec, value in zip(self.states, states, strict=True):
            named.setdefault(spec.layer, {})[spec.name] = value
        return named

    def parity(self, sequences: int = 8, steps: int = 40, seed: int = 0) -> Parity:
        """Compare the streamed output after every step with the trained model on the same prefix; random sequences.

        Raises WorkerError when the trained model can't be run on them.
        """
        try:
            with catch_warnings(action="ignore"):
                return self._form.measure(sequences, steps, seed)
        except (ValueError, TypeError, tf.errors.OpError) as error:  # Keras' and TensorFlow's own complaints
            raise WorkerError(f"parity: the trained model can't be run on a prefix ({reason_of(error)})") from error

    def samples(self, sequences: int, steps: int, seed: int = 0) -> FloatArray:
        """Random sequences (sequences, steps, features) that the trained model takes."""
        return self._form.samples(sequences, steps, seed).astype(self.dtype)

    def check_parity(self, tolerance: float, sequences: int = 8, steps: int | None = None) -> Parity:
        """``parity``, or WorkerError naming the difference when it is above the tolerance or not a number."""
        return check(self.parity(sequences, steps or self.proof_steps), tolerance, self.trained.code)

    @property
    def proof_steps(self) -> int:
        """Steps after which every part of the states has been used."""
        return self._form.proof_steps

    def to_keras(self) -> Any:
        """The explicit-state model [x (batch, 1, features), *states] → [y, *states]: an ordinary keras.Model.

        Of a model that ``waits``: [y, answered (batch, 1), *states].
        """
        return self._form.to_keras()

    def summary(self) -> str:
        """One line per layer: its name, its kind, how it runs on a step, the states it has.

        Before them, where there are several inputs or outputs, which columns of a vector or an answer are whose.
        """
        ports = [f"inputs: {input_words(self.inputs)}"] if len(self.inputs) > 1 else []
        ports += [f"outputs: {output_words(self.outputs)}"] if len(self.outputs) > 1 else []
        return "\n".join([*ports, *table(self.layers)])
