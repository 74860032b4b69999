"""A trained model that writes: items in, the next item drawn from its answer and fed back, all states explicit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from worker.errors import ModelRefusedError, WorkerError, counted
from worker.model.decoding import PackedDecoder
from worker.model.files.loading import load_model
from worker.model.files.own import Objects
from worker.model.forms import TRIED_ROWS
from worker.model.item_ports import answers_logits, refuse_waiting, takes_one_hot
from worker.model.prompts import Chance, TextStates, ids_of, stop_id, texts_of, writing_of
from worker.model.proof.greedy import carried_against_window
from worker.model.proof.parity import Parity, check
from worker.model.sampling import Sampler
from worker.model.streaming import StreamingModel
from worker.records.arrays import FloatArray, IntArray
from worker.records.texts import NO_STOP
from worker.records.vocabulary import REFUSE, SKIP, Items, Vocabulary
from worker.records.writing import Writing, Written

PROOF_ITEMS = 40
PROOF_TEXTS = 2
Text = TypeVar("Text", str, list[str])  # one stream's, or a batch's

UNKNOWN = {"refuse": REFUSE, "skip": SKIP}


class GenerativeModel:
    """A trained Keras model that writes characters, words or ids, one item at a time with its state carried.

    It takes ids, (batch, time), or one-hot vectors, (batch, time, V), and answers V probabilities, or V logits, after
    each step or at the end. Raises ModelRefusedError for a model that does not, that can't be streamed, or whose
    vocabulary has another size; VocabularyError for items that can't be a vocabulary; ValueError for a stop item,
    ``top_k`` or ``top_p`` that can't be::

        model = GenerativeModel.load("verses.keras", vocabulary=list("abc …"))  # or GenerativeModel(keras_model, …)
        text, states = model.generate("Once upon a time", length=200, temperature=0.5, seed=1)
        more, states = model.generate("", length=200, states=states)  # continues
        texts, states = model.generate(["one", "two"], length=20, temperature=0)  # a batch; 0 = the likeliest item
        tokens, states = model.generate_tokens([[3, 17, 5]], length=20)  # ids in and out, no vocabulary needed
        print(model.parity().max_abs_difference)

    ``vocabulary``    Vocabulary, or None; given as one, as items in the order of their ids, {item: id} or {id: item}
    ``units``         V, items of the vocabulary
    ``one_hot``       whether the model takes one-hot vectors, or else ids
    ``logits``        whether it answers logits; ``step``, ``write`` and ``generate`` make probabilities of them
    ``stop``          id of the item that ends a text; -1 where there is none
    ``streaming``     the StreamingModel inside, whose ``states``, ``layers``, ``layout``, ``state_width``, ``dtype``,
                      ``initial_row``, ``sha256`` and ``trained`` are this one's, too
    """

    def __init__(
        self,
        keras_model: Any,
        vocabulary: Vocabulary | Items | None = None,
        *,
        stop: str | int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        sha256: str | None = None,
    ) -> None:
        try:
            self.streaming = streaming = StreamingModel(keras_model, sha256=sha256)
        except ModelRefusedError as refusal:
            raise refusal.with_second("") from refusal
        self._original, explicit, packed = keras_model, streaming._explicit, streaming._packed
        refuse_waiting(keras_model.name, explicit.waits)
        self.units = streaming.units
        self.one_hot = takes_one_hot(explicit)
        self.logits = answers_logits(keras_model, packed, self.one_hot)
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(vocabulary)
        self.vocabulary = vocabulary
        if self.vocabulary is not None and len(self.vocabulary) != self.units:
            raise ModelRefusedError(
                "",
                f"the vocabulary has {counted(len(self.vocabulary), 'item')}, the model answers {self.units}",
                "give the vocabulary that the model was trained with, in the order of its ids",
            )
        self.stop = NO_STOP if stop is None else stop_id(stop, self.vocabulary, self.units)
        sampler = Sampler(self.units, top_k, top_p)
        self._decoder = PackedDecoder(packed, sampler, one_hot=self.one_hot, logits=self.logits, stop=self.stop)
        self.states, self.layers, self.layout = streaming.states, streaming.layers, streaming.layout
        self.state_width, self.dtype, self.initial_row = streaming.state_width, streaming.dtype, streaming.initial_row
        self.sha256 = sha256

    @classmethod
    def load(
        cls,
        path: str | Path,
        vocabulary: Vocabulary | Items | None = None,
        *,
        sha256: str | None = None,
        allow_lambda: bool = False,
        custom_objects: Objects = (),
        stop: str | int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> GenerativeModel:
        """Read a `.keras` or legacy `.h5` file, as ``StreamingModel.load`` does.

        Raises WorkerError when the file can't be used, and what making a GenerativeModel raises.
        """
        model, digest = load_model(path, sha256, allow_lambda=allow_lambda, custom_objects=custom_objects)
        return cls(model, vocabulary, stop=stop, top_k=top_k, top_p=top_p, sha256=digest)

    def zero_states(self, batch: int) -> TextStates:
        """Of streams that have seen nothing."""
        output = np.full((batch, self.units), np.nan, self.dtype)
        return TextStates(self.streaming.zero_states(batch), output, np.zeros(batch, np.int64))

    def generate(
        self,
        text: Text,
        length: int,
        states: TextStates | None = None,
        *,
        temperature: ArrayLike = 1.0,
        seed: int = 0,
        streams: Sequence[str] | None = None,
        unknown: str = "refuse",
    ) -> tuple[Text, TextStates]:
        """Feed a text, or one per stream, then draw ``length`` items or up to the stop item, each fed back.

        Returns what was drawn, without the stop item, and the states after it, which continue the text: then ``text``
        may be empty. ``temperature``: one, or one per stream; 0 takes the likeliest item. The n-th item that a stream
        draws depends on ``seed``, the stream's name and n, as in the worker; ``streams`` are "0", "1", … if not given.
        ``unknown``, for text the vocabulary does not have: "refuse", "skip", or an item to take instead. Raises
        UnknownItemError; ValueError for empty text without states, without a vocabulary, and what ``generate_tokens``
        raises.
        """
        if self.vocabulary is None:
            raise ValueError("this model has no vocabulary: give it one, or use generate_tokens")
        policy = UNKNOWN[unknown] if unknown in UNKNOWN else self.vocabulary.id(unknown)
        prompts = [self.vocabulary.ids(each, policy) for each in texts_of(text)]
        tokens, after = self.generate_tokens(
            prompts, length, states, temperature=temperature, seed=seed, streams=streams
        )
        texts = [self.vocabulary.text(drawn) for drawn in tokens]
        return (texts[0], after) if isinstance(text, str) else (texts, after)

    def generate_tokens(
        self,
        prompts: Sequence[ArrayLike],
        length: int,
        states: TextStates | None = None,
        *,
        temperature: ArrayLike = 1.0,
        seed: int = 0,
        streams: Sequence[str] | None = None,
    ) -> tuple[list[list[int]], TextStates]:
        """As ``generate`` with ids for text: a sequence of them per stream, which may be empty where states are given.

        Raises ValueError for ids that aren't the vocabulary's, a negative length or temperature, names or states of
        another number of streams, nothing to begin with; StateShapeError; WorkerError when the model answers numbers
        that are not finite.
        """
        before = self.zero_states(len(prompts)) if states is None else states
        names = [str(row) for row in range(len(prompts))] if streams is None else list(streams)
        writing = writing_of(
            [ids_of(prompt, self.units, f"prompt {row}") for row, prompt in enumerate(prompts)],
            length,
            self.streaming.pack(before.states, len(prompts)),
            before.output,
            temperature,
            Chance(seed, names, before.drawn),
            self.units,
        )
        written = self.write(writing)
        if not written.finite.all():
            raise WorkerError(f"stream {names[int(np.argmin(written.finite))]}: the model answers no finite numbers")
        counts = (written.tokens >= 0).sum(axis=0)
        tokens = [[int(t) for t in row if t >= 0 and t != self.stop] for row in written.tokens.T]
        after = TextStates(
            self.streaming.unpack(written.packed), np.array(written.outputs), np.asarray(before.drawn) + counts
        )
        return tokens, after

    def write(self, writing: Writing) -> Written:
        """Feed and draw many steps of many streams in one call, for programs: see ``worker.records.writing``."""
        return self._decoder.write(writing)

    def step(self, tokens: IntArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ids (n,), packed rows (n, state_width) → probabilities (n, units), packed after; read-only arrays."""
        return self._decoder.step(tokens, packed)

    def warm_up(self, rows: int) -> bool:
        """As ``StreamingModel.warm_up``: build all graphs; whether a row's text is independent of the other rows."""
        return self._decoder.settle(max(rows, TRIED_ROWS))

    def parity(self, sequences: int = 8, steps: int = 40, seed: int = 0, items: int = PROOF_ITEMS) -> Parity:
        """As ``StreamingModel.parity``, and the likeliest texts of so many items against those of the growing window.

        Of these the difference is by how much the trained model finds another item likelier than the one written.
        """
        found = self.streaming.parity(sequences, steps, seed)
        texts = min(sequences, PROOF_TEXTS)
        behind, where = carried_against_window(
            self._original, self.streaming._explicit, self._decoder, texts, items, seed
        )
        if behind > found.max_abs_difference or np.isnan(behind):
            return replace(found, max_abs_difference=behind, where=where)
        return found

    def check_parity(self, tolerance: float, sequences: int = 8, steps: int | None = None) -> Parity:
        """``parity``, or WorkerError naming the difference when it is above the tolerance or not a number."""
        found = self.parity(sequences, steps or self.streaming.proof_steps)
        return check(found, tolerance, self.streaming.trained.code)
