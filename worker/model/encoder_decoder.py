"""A trained encoder-decoder model on streams: sources in, texts out, the states between them explicit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worker.errors import WorkerError
from worker.model.backend import tf
from worker.model.building import LayerReport, table
from worker.model.decoding import PackedDecoder
from worker.model.facts import TrainedFacts
from worker.model.failing import reason_of
from worker.model.files.loading import load_model
from worker.model.files.own import Objects
from worker.model.forms import TRIED_ROWS
from worker.model.item_ports import answers_logits, of_numbers, takes_one_hot, vectors_of_ids
from worker.model.packing import States, pack, rows_of, unpack
from worker.model.pair.items import GIVEN, check_source, check_target, item_id, vocabulary_of
from worker.model.pair.opening import foreign_refused, opened
from worker.model.pair.parity import Trained, measure
from worker.model.pair.source import Source, source_of
from worker.model.pair.sources import encode, sources_of
from worker.model.pair.two_models import load_two
from worker.model.prompts import Chance, ids_of, texts_of, writing_of
from worker.model.proof.parity import Parity, check
from worker.model.sampling import Sampler
from worker.model.step import PackedStep
from worker.records.arrays import FloatArray
from worker.records.model_url import shown
from worker.records.states import StateLayout, StateSpec
from worker.records.texts import NO_STOP

NO_START = -1  # where no start item is given: then nothing can be decoded
MAX_LENGTH_ITEMS = 400
PROOF_STEPS = 40
Text = TypeVar("Text", str, list[str])  # one source's, or a batch's


class EncoderDecoder:
    """Encoder and decoder, derived from the one model that was trained on [source, target], or given as two.

    The decoder begins with the encoder's last states. Where the encoder needs a source as a whole (Bidirectional), it
    reads it at once; otherwise item by item. Raises ModelRefusedError, naming the layer, for a model in which nothing
    can be derived, that can't be streamed, or whose vocabularies have other sizes; VocabularyError; ValueError for
    ``start``, ``stop``, ``top_k`` or ``top_p`` that can't be::

        model = EncoderDecoder.load("train.keras", start="\\t", stop="\\n", source_vocabulary=…, target_vocabulary=…)
        model = EncoderDecoder.load(encoder="encoder.keras", decoder="decoder.keras", start=1, stop=2)
        model = EncoderDecoder(keras_model, start=1, stop=2)  # or (keras_encoder, keras_decoder, …)
        model.translate("good morning")  # text, with vocabularies
        states = model.encode([[3, 17, 5], [4, 4]])  # sources of any lengths → [(2, 64), (2, 64)]
        texts = model.decode(states)  # [[7, 2], [9]]: ids, each item fed back until stop or max_length
        p, states = model.step([1, 1], states)  # one item each → probabilities (2, units), states after

    ``encoder``, ``decoder``  as the engine takes them (``worker.engine.text_models``)
    ``states``        of the decoder: layer, name, shape without the batch axis, dtype
    ``state_width``   numbers of a packed row: all states of one decoder, side by side
    ``units``         items of the target's vocabulary; ``one_hot``: whether the decoder takes them as one-hot vectors
    ``logits``        whether it answers logits; ``step`` and ``decode`` make probabilities of them
    ``start``, ``stop``  ids; -1 where there is none
    ``layers``        what became of each layer, the encoder's first
    ``sha256``        of the file; of two, of their SHA-256 in hexadecimal, the encoder's first; None from memory
    """

    def __init__(
        self,
        keras_model: Any,
        decoder: Any = None,
        *,
        start: str | int | None = None,
        stop: str | int | None = None,
        source_vocabulary: GIVEN = None,
        target_vocabulary: GIVEN = None,
        max_length: int = MAX_LENGTH_ITEMS,
        top_k: int | None = None,
        top_p: float | None = None,
        sha256: str | None = None,
        names: tuple[str, str] = ("the encoder", "the decoder"),
    ) -> None:
        # Keras warns of masks that a layer drops, as it did in training.
        with catch_warnings(action="ignore"), foreign_refused():  # Keras warns of masks that a layer drops
            self._open(keras_model, decoder, names)
        self.sha256, self.max_length = sha256, max_length
        self.source_vocabulary = vocabulary_of(source_vocabulary)
        self.target_vocabulary = vocabulary_of(target_vocabulary)
        check_source(self.source_vocabulary, self.encoder.part)
        check_target(self.target_vocabulary, self.units)
        known = self._explicit.inputs[0].ids or self.units  # an Embedding may know a start item that is never written
        vocabulary = self.target_vocabulary
        self.start = NO_START if start is None else item_id(start, vocabulary, known, "start")
        self.stop = NO_STOP if stop is None else item_id(stop, vocabulary, self.units, "stop")
        sampler = Sampler(self.units, top_k, top_p)
        self.decoder = PackedDecoder(self._packed, sampler, one_hot=self.one_hot, logits=self.logits, stop=self.stop)
        if self.source_vocabulary is not None:
            self.encoder.features = 1

    def _open(self, given: Any, decoder: Any, names: tuple[str, str]) -> None:
        pair = opened(given, decoder, names)
        self._encoder, self._decoder, self._explicit = pair.encoder, pair.decoder, pair.explicit
        self._packed = PackedStep(self._explicit)
        self.units, self.state_width = self._packed.units, self._packed.state_width
        self.one_hot = takes_one_hot(self._explicit)
        self.logits = answers_logits(self._decoder, self._packed, self.one_hot)
        self.encoder: Source = source_of(of_numbers(self._encoder), self._packed.dtype)
        self.states: list[StateSpec] = self._explicit.states
        self.layout: StateLayout = self._packed.layout
        self.layers: list[LayerReport] = [*self.encoder.layers, *self._explicit.layers]
        self._trained: Trained = pair.trained()

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        encoder: str | Path | None = None,
        decoder: str | Path | None = None,
        sha256: str | None = None,
        allow_lambda: bool = False,
        custom_objects: Objects = (),
        **more: Any,
    ) -> EncoderDecoder:
        """Read one `.keras` or legacy `.h5` file, or two; ``more`` is what making an EncoderDecoder takes.

        With ``sha256`` any other file is refused before it is opened, of two files before they are put together.
        ``allow_lambda``, ``custom_objects``: as ``StreamingModel.load``. Raises WorkerError when a file can't be used,
        and what making an EncoderDecoder raises; ValueError for neither one path nor two.
        """
        if (path is None) == (encoder is None) or (encoder is None) != (decoder is None):
            raise ValueError("give one path, or encoder= and decoder=")
        if path is not None:
            model, digest = load_model(path, sha256, allow_lambda=allow_lambda, custom_objects=custom_objects)
            return cls(model, sha256=digest, **more)
        models, digest = load_two((str(encoder), str(decoder)), sha256, allow_lambda, custom_objects)
        return cls(*models, sha256=digest, names=(shown(encoder), shown(decoder)), **more)

    def encode(self, sources: Sequence[ArrayLike] | NDArray[Any]) -> list[FloatArray]:
        """Sources → the decoder's first states, one array (batch, *shape) per entry of ``states``.

        A source is (time,) ids, (time, features) vectors, or text where there is a source vocabulary; their lengths may
        differ, none is empty, and nothing is padded. Raises ValueError; UnknownItemError for text.
        """
        items = sources_of(sources, self.encoder.part, self.source_vocabulary)
        return unpack(encode(self.encoder, items), self.states, self.layout)

    def step(self, tokens: ArrayLike, states: States) -> tuple[FloatArray, list[FloatArray]]:
        """Ids (batch,) of the items before, states before → probabilities (batch, units) of the next, states after.

        Raises StateShapeError naming layer, wanted and given; ValueError for ids.
        """
        ids = ids_of(tokens, self._explicit.inputs[0].ids or self.units, "tokens")
        packed = pack(states, len(ids), self.states, self.layout, self._packed.dtype)
        probabilities, after = self.decoder.step(ids, packed)
        return np.array(probabilities), unpack(after, self.states, self.layout)

    def decode(
        self,
        states: States,
        length: int | None = None,
        *,
        temperature: ArrayLike = 0.0,
        seed: int = 0,
        streams: Sequence[str] | None = None,
    ) -> list[list[int]]:
        """Feed ``start``, then draw up to ``length`` items (``max_length`` if not given), each fed back until ``stop``.

        States as ``encode`` gives them → ids of each text, without the stop item. ``temperature``: one, or one per
        stream; 0 takes the likeliest item. ``seed``, ``streams``: as in ``GenerativeModel.generate``. Beams are the
        worker's (``model.beams``). Raises ValueError without ``start``; StateShapeError; WorkerError when the model
        answers numbers that are not finite.
        """
        if self.start == NO_START:
            raise ValueError("start: not given, so nothing tells which item a text begins with")
        rows = rows_of(states)
        packed = pack(states, rows, self.states, self.layout, self._packed.dtype)
        names = [str(row) for row in range(rows)] if streams is None else list(streams)
        nothing = np.full((rows, self.units), np.nan, self._packed.dtype)
        chance = Chance(seed, names, np.zeros(rows, np.int64))
        first = [np.array([self.start])] * rows
        count = self.max_length if length is None else length
        written = self.decoder.write(writing_of(first, count, packed, nothing, temperature, chance, self.units))
        if not written.finite.all():
            raise WorkerError(f"stream {names[int(np.argmin(written.finite))]}: the model answers no finite numbers")
        return [[int(token) for token in row if token >= 0 and token != self.stop] for row in written.tokens.T]

    def translate(self, text: Text, length: int | None = None, *, temperature: ArrayLike = 0.0, seed: int = 0) -> Text:
        """A source's text, or a list of them → what the decoder writes. Raises as ``encode`` and ``decode``."""
        if self.target_vocabulary is None:
            raise ValueError("this model has no target vocabulary: give it one, or use encode and decode")
        states = self.encode(texts_of(text))
        texts = [
            self.target_vocabulary.text(ids) for ids in self.decode(states, length, temperature=temperature, seed=seed)
        ]
        return texts[0] if isinstance(text, str) else texts

    def warm_up(self, rows: int) -> bool:
        """As ``StreamingModel.warm_up``: build all graphs; whether a row's text is independent of the other rows."""
        exact = self.encoder.warm_up(rows)
        return self.decoder.settle(max(rows, TRIED_ROWS)) and exact

    def parity(self, sequences: int = 8, steps: int = PROOF_STEPS, seed: int = 0) -> Parity:
        """Compare with the trained model under teacher forcing, or with the two files as they run in Keras.

        Random sources of up to ``steps`` items, fed one by one where that is possible, then ``steps`` items of random
        targets, every other one from ``start`` on. Raises WorkerError when the trained model can't be run on them.
        """
        known = self.start != NO_START
        first = vectors_of_ids(np.array(self.start), self.units, self.one_hot) if known else None
        return self._measured(sequences, steps, seed, first)

    def _measured(self, sequences: int, steps: int, seed: int, first: FloatArray | None) -> Parity:
        try:
            with catch_warnings(action="ignore"):
                return measure(self._trained, self.encoder, self._packed, sequences, steps, seed, first)
        except (ValueError, TypeError, tf.errors.OpError) as error:  # Keras' and TensorFlow's own complaints
            raise WorkerError(f"parity: the trained model can't be run ({reason_of(error)})") from error

    def check_parity(self, tolerance: float, sequences: int = 8, steps: int = PROOF_STEPS) -> Parity:
        """``parity``, or WorkerError naming the difference when it is above the tolerance or not a number.

        Raises ModelRefusedError where it is not within the tolerance for texts alone that begin with ``start``.
        """
        found = self.parity(sequences, steps)
        if not found.within(tolerance) and self._measured(sequences, steps, 0, None).within(tolerance):
            self._trained.refuse_start(self.start)
        return check(found, tolerance, self.trained.code)

    @property
    def trained(self) -> TrainedFacts:
        """As ``StreamingModel.trained``, of encoder and decoder together; ``window``: of the source."""
        return self._trained.facts()

    def to_keras(self) -> tuple[Any, Any]:
        """Ordinary Keras models: encoder, source → states; decoder, [x, *states] → [y, *states after], x of one item.

        Their saved files, given back as ``encoder`` and ``decoder``, work the same. The decoder takes more items at
        once only where it answers to each as it would to one alone.
        """
        return self._encoder, self._decoder

    def summary(self) -> str:
        """As ``StreamingModel.summary``, the encoder's layers first."""
        why = f"the encoder reads a source as a whole: {self.encoder.why_whole}"
        return "\n".join([*([why] if self.encoder.reads_whole else []), *table(self.layers)])
