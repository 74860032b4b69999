"""The two models of the demonstration, trained when they are first wanted, and kept for the next time.

Rule of this file: what is saved is what users have: windows of 40 in batches of 64, and one model with teacher forcing.
``examples/`` trains larger ones of the same kind.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from worker.commands.demo.texts.sources import reference, sentences
from worker.errors import WorkerError

Task: TypeAlias = Literal["generate", "seq2seq"]
Progress: TypeAlias = Callable[[str], None]

BATCH, WINDOW = 64, 40
UNITS, EMBEDDING = 256, 64
STEPS: dict[Task, int] = {"generate": 1_000, "seq2seq": 1_200}
LEARNING_RATES = (0.004, 0.0004)  # at the beginning, at the end
ROUND = 20  # batches from one word of progress to the next
SEED = 7


class Files(NamedTuple):
    """A trained model and its vocabularies: of task generate one, of seq2seq the source's and the target's."""

    model: Path
    vocabularies: tuple[Path, ...]


def trained(task: Task, folder: Path, progress: Progress, steps: int | None = None) -> Files:
    """The files in ``folder``, made first where they aren't there: ``progress`` is told how far it is, in words.

    Raises WorkerError when the folder can't be written.
    """
    steps = steps or STEPS[task]
    names = {"generate": ("characters",), "seq2seq": ("english", "french")}[task]
    place = folder / f"{task}-{steps}-{_digest()}"
    files = Files(place / "model.keras", tuple(place / f"{name}.json" for name in names))
    if not place.is_dir():
        work = folder / f".{secrets.token_hex(8)}"
        try:
            work.mkdir(parents=True)
        except OSError as error:
            raise WorkerError(f"the model can't be kept in {folder}: {error.strerror}") from error
        try:
            model, vocabularies = _MAKE[task](steps, progress)
            for path, items in zip(files.vocabularies, vocabularies, strict=True):
                (work / path.name).write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
            model.save(work / files.model.name)
            _keep(work, place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return files


def _keep(work: Path, place: Path) -> None:
    """Another demonstration may have been faster: its files are as good."""
    try:
        work.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _digest() -> str:
    """Of what decides the models: another version of this file, or of Python's texts, trains anew."""
    given = [Path(__file__).read_bytes(), *("".join(items).encode() for items in [reference().characters])]
    return hashlib.sha256(b"".join(given)).hexdigest()[:12]


def _writer(steps: int, progress: Progress) -> tuple[Any, Sequence[list[str]]]:
    """Ids (64, 40) → probabilities of the next character."""
    from worker.model.backend import keras

    text, layers = reference(), keras.layers
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(BATCH, WINDOW), dtype="int32"),
            layers.Embedding(len(text.characters), EMBEDDING),
            layers.LSTM(UNITS, return_sequences=True),
            layers.TimeDistributed(layers.Dense(len(text.characters), activation="softmax")),
        ]
    )

    def windows() -> Iterator[tuple[Any, Any]]:
        random = np.random.default_rng(SEED)
        while True:
            taken = text.ids[random.integers(0, len(text.ids) - WINDOW, (BATCH, 1)) + np.arange(WINDOW + 1)]
            yield taken[:, :-1], taken[:, 1:]

    _fit(model, windows(), steps, progress)
    return model, [text.characters]


def _translator(steps: int, progress: Progress) -> tuple[Any, Sequence[list[str]]]:
    """English ids (batch, time), French ids so far (batch, time) → probabilities of the next word."""
    from worker.model.backend import keras

    pairs, layers = sentences(), keras.layers
    keras.utils.set_random_seed(SEED)
    source, target = (keras.Input((None,), dtype="int32", name=name) for name in ("english", "french"))
    x = layers.Embedding(len(pairs.english), EMBEDDING, mask_zero=True)(source)
    _, h, c = layers.LSTM(UNITS, return_state=True, name="encoder")(x)
    y = layers.Embedding(len(pairs.french), EMBEDDING, mask_zero=True)(target)
    y = layers.LSTM(UNITS, return_sequences=True, name="decoder")(y, initial_state=[h, c])
    model = keras.Model([source, target], layers.Dense(len(pairs.french), activation="softmax")(y))

    def batches() -> Iterator[tuple[Any, Any]]:
        random = np.random.default_rng(SEED)
        while True:
            rows = random.integers(0, len(pairs.sources), BATCH)
            yield [pairs.sources[rows], pairs.targets[rows, :-1]], pairs.targets[rows, 1:]

    _fit(model, batches(), steps, progress)
    return model, [pairs.english, pairs.french]


def _fit(model: Any, batches: Iterator[tuple[Any, Any]], steps: int, progress: Progress) -> None:
    model.compile("adam", "sparse_categorical_crossentropy")
    first, last = LEARNING_RATES
    loss = 0.0
    for done in range(steps):
        model.optimizer.learning_rate = last + (first - last) * 0.5 * (1 + np.cos(np.pi * done / steps))
        loss = float(model.train_on_batch(*next(batches)))
        if done % ROUND == 0:
            progress(f"training the model, only this first time: {done:,} of {steps:,} batches, loss {loss:.2f}")


_MAKE: dict[Task, Callable[[int, Progress], tuple[Any, Sequence[list[str]]]]] = {
    "generate": _writer,
    "seq2seq": _translator,
}
