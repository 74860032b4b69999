"""Train a model that writes, character by character, on the language reference of Python: minutes on two cores.

The text is in every CPython (``pydoc_data.topics``: what ``help("while")`` shows), 416,000 characters under the PSF
licence. The model is the one that everybody begins with, with everything that gets in the way afterwards: a fixed batch
of 64, windows of 40 characters, no state carried. docs/generating-text.md says what to do with it.

    python examples/train_text.py --output text --minutes 4

writes ``text/writer.keras`` and ``text/characters.json``, the vocabulary: the character of id 0, of id 1, …
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH, WINDOW = 64, 40  # sequences in a batch, characters in a sequence
UNITS, EMBEDDING = 256, 32
LEARNING_RATES = (0.004, 0.0004)  # at the beginning, at the end
ROUND = 50  # batches from one line of progress to the next
PRIMING = "The with statement"
WRITTEN = 200  # characters of a sample
TEMPERATURES = (0.0, 0.5, 1.0)
DRAWN = re.compile(r"\||[-+*=~^]{3}")  # a line of a table, or a rule below a heading


def reference() -> str:
    """The language reference as one text without its tables and rules, the same everywhere with the same Python."""
    lines = "\n\n".join(topics[name] for name in sorted(topics)).splitlines()
    return "\n".join(line for line in lines if not DRAWN.search(line))


def windows(ids: NDArray[np.int32], seed: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Without end: (64, 40) ids from anywhere in the text, and the ids one character later."""
    random = np.random.default_rng(seed)
    while True:
        start = random.integers(0, len(ids) - WINDOW, (BATCH, 1))
        taken = ids[start + np.arange(WINDOW + 1)]
        yield taken[:, :-1], taken[:, 1:]


def network(characters: int) -> Any:
    """Ids (64, 40) → probabilities of the next character (64, 40, characters)."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(batch_shape=(BATCH, WINDOW), dtype="int32"),
            layers.Embedding(characters, EMBEDDING),
            layers.LSTM(UNITS, return_sequences=True),
            layers.TimeDistributed(layers.Dense(characters, activation="softmax")),
        ],
        name="writer",
    )


def train(model: Any, ids: NDArray[np.int32], *, minutes: float, steps: int | None, seed: int) -> float:
    """Fit until the time is over, or for so many steps; returns the mean loss of the last round, in nats."""
    model.compile("adam", "sparse_categorical_crossentropy")
    started, done, loss = time.monotonic(), 0, float("nan")
    text, ends = windows(ids, seed), minutes * 60
    while True:
        share = done / steps if steps else (time.monotonic() - started) / ends
        if share >= 1:
            return loss
        first, last = LEARNING_RATES
        model.optimizer.learning_rate = last + (first - last) * 0.5 * (1 + np.cos(np.pi * share))
        count = min(ROUND, steps - done) if steps else ROUND
        loss = float(np.mean([model.train_on_batch(*next(text)) for _ in range(count)]))
        done += count
        print(f"{time.monotonic() - started:5.0f} s  {done:6,} batches  loss {loss:.3f} per character", flush=True)


def show(model: Any, characters: list[str], seed: int) -> None:
    """Print what the model writes: one character at a time, the state carried."""
    from worker import GenerativeModel

    writer = GenerativeModel(model, vocabulary=characters)
    for temperature in TEMPERATURES:
        written, _ = writer.generate(PRIMING, length=WRITTEN, temperature=temperature, seed=seed)
        print(f"\nafter {PRIMING!r}, temperature {temperature}, seed {seed}:\n{PRIMING}{written}")


def main() -> None:
    """Train, save the model and its vocabulary, and print what it writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("text"), help="folder of the files; default: text")
    parser.add_argument("--minutes", type=float, default=4.0, help="how long to train; default: 4")
    parser.add_argument("--steps", type=int, help="train for so many batches instead")
    parser.add_argument("--seed", type=int, default=0, help="of weights, windows and the sample; default: 0")
    chosen = parser.parse_args()
    import keras

    keras.utils.set_random_seed(chosen.seed)
    text = reference()
    characters = sorted(set(text))
    place = {character: index for index, character in enumerate(characters)}
    ids = np.array([place[character] for character in text], np.int32)
    print(f"{len(text):,} characters, {len(characters)} different ones")
    model = network(len(characters))
    train(model, ids, minutes=chosen.minutes, steps=chosen.steps, seed=chosen.seed)
    chosen.output.mkdir(parents=True, exist_ok=True)
    model.save(chosen.output / "writer.keras")
    (chosen.output / "characters.json").write_text(json.dumps(characters), encoding="utf-8")
    print(f"written: {chosen.output}/writer.keras, {chosen.output}/characters.json")
    show(model, characters, chosen.seed)


if __name__ == "__main__":
    main()
