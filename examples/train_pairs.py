"""Train a model that translates short English sentences of web pages into French: LSTM encoder, LSTM decoder.

The 2,722 pairs are by people: from the message catalogues of Django, Wagtail and Oscar (BSD licences, see
``worker/commands/demo/data/PROVENANCE.md``). The model is the one of the tutorials: the encoder's final h and c are the
decoder's ``initial_state``, and in training the decoder is given the right words so far (teacher forcing).
docs/encoder-decoder.md says what to do with it.

    python examples/train_pairs.py --output pairs --minutes 3

writes ``pairs/translator.keras`` (both parts as one training model), ``pairs/english.json`` and ``pairs/french.json``,
the vocabularies: the word of id 0, of id 1, …
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PAIRS = resources.files("worker") / "commands" / "demo" / "data" / "english_french.tsv"
PADDING, START, STOP, UNKNOWN = "<padding>", "<start>", "<stop>", "<unknown>"
UNITS, EMBEDDING, DROPOUT = 256, 128, 0.2
BATCH = 64
LEARNING_RATES = (0.003, 0.0001)  # at the beginning, at the end
UNKNOWN_SHARE = 0.05  # of the English words, in training only: the model has to get on without a word it doesn't know
UNSEEN_SHARE = 0.1  # of the pairs, kept out of the training
ROUND = 50  # batches from one line of progress to the next
SHOWN = 8  # samples of each kind
LONGEST = 20  # words of a translation
WORD = re.compile(r"\w+'(?=\w)|\w+(?:-\w+)*|\.\.\.|[^\w\s]")

Ids = NDArray[np.int32]


class Pairs(NamedTuple):
    """Word ids, padded with 0 at the end: English (n, time), French between start and stop item (n, time)."""

    english: Ids
    french: Ids


def words(sentence: str) -> list[str]:
    """In small letters, signs alone: ``Delete it?`` → delete, it, ?."""
    return WORD.findall(sentence.lower())


def sentences() -> tuple[list[list[str]], list[list[str]]]:
    """English and French, sentence by sentence, as words."""
    lines = [line.split("\t") for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    return [words(english) for english, _ in lines], [words(french) for _, french in lines]


def vocabulary(texts: list[list[str]], extra: list[str]) -> list[str]:
    """Padding is id 0, which ``mask_zero`` is about; then the extra items; then all words."""
    return [PADDING, *extra, *sorted({word for text in texts for word in text})]


def padded(texts: list[list[str]], items: list[str]) -> Ids:
    """(n, time of the longest) ids; 0 after the end."""
    place = {item: index for index, item in enumerate(items)}
    ids = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = [place[word] for word in text]
    return ids


def network(english: int, french: int) -> Any:
    """English ids (batch, time) and French ids so far (batch, time) → probabilities of the next word (…, french)."""
    import keras

    layers = keras.layers
    source = keras.Input((None,), dtype="int32", name="english")
    x = layers.Embedding(english, EMBEDDING, mask_zero=True, name="english_words")(source)
    x = layers.Dropout(DROPOUT)(x)
    _, h, c = layers.LSTM(UNITS, return_state=True, name="encoder")(x)
    target = keras.Input((None,), dtype="int32", name="french")
    y = layers.Embedding(french, EMBEDDING, mask_zero=True, name="french_words")(target)
    y = layers.Dropout(DROPOUT)(y)
    y, _, _ = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="decoder")(y, initial_state=[h, c])
    y = layers.Dropout(DROPOUT)(y)
    y = layers.Dense(french, activation="softmax", name="next_word")(y)
    return keras.Model([source, target], y, name="translator")


def train(model: Any, pairs: Pairs, unknown: int, *, minutes: float, steps: int | None, seed: int) -> float:
    """Fit until the time is over, or for so many steps; returns the mean loss of the last round, in nats per word."""
    model.compile("adam", "sparse_categorical_crossentropy")
    random, started, done, loss = np.random.default_rng(seed), time.monotonic(), 0, float("nan")
    while True:
        share = done / steps if steps else (time.monotonic() - started) / (minutes * 60)
        if share >= 1:
            return loss
        first, last = LEARNING_RATES
        model.optimizer.learning_rate = last + (first - last) * 0.5 * (1 + np.cos(np.pi * share))
        losses = []
        for _ in range(min(ROUND, steps - done) if steps else ROUND):
            rows = random.integers(len(pairs.english), size=BATCH)
            english, french = pairs.english[rows], pairs.french[rows]
            forgotten = (random.random(english.shape) < UNKNOWN_SHARE) & (english > 0)
            given = [np.where(forgotten, unknown, english), french[:, :-1]]
            losses.append(model.train_on_batch(given, french[:, 1:]))
        loss, done = float(np.mean(losses)), done + len(losses)
        print(f"{time.monotonic() - started:5.0f} s  {done:6,} batches  loss {loss:.3f} per word", flush=True)


def accuracy(model: Any, pairs: Pairs) -> float:
    """Share of right next words, given the right ones before."""
    said = np.concatenate(
        [
            model.predict([pairs.english[at : at + 256], pairs.french[at : at + 256, :-1]], verbose=0).argmax(-1)
            for at in range(0, len(pairs.english), 256)
        ]
    )
    wanted = pairs.french[:, 1:]
    return float((said == wanted)[wanted > 0].mean())


def show(model: Any, pairs: Pairs, english: list[str], french: list[str], *, known: bool) -> None:
    """Print how good the model is on these pairs, and what it says about the first ones: each of its words fed back."""
    from worker import EncoderDecoder

    translator = EncoderDecoder(
        model, source_vocabulary=english, target_vocabulary=french, start=START, stop=STOP, max_length=LONGEST
    )
    given = [" ".join(english[word] for word in row if word) for row in pairs.english]
    right = [" ".join(french[word] for word in row if word > french.index(STOP)) for row in pairs.french]
    said = translator.translate(given)
    whole = sum(one == other for one, other in zip(said, right, strict=True))
    print(
        f"\n{len(given):,} sentences it {'was trained on' if known else 'has never seen'}: {whole:,} translated right"
    )
    print(f"(given the right words before, {accuracy(model, pairs):.1%} of the next words are right)")
    for source, text, wanted in list(zip(given, said, right, strict=True))[:SHOWN]:
        print(f"  {source} → {text}" + ("" if text == wanted else f"   ✗ {wanted}"))


def main() -> None:
    """Train, save the model and its vocabularies, and print what it translates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("pairs"), help="folder of the files; default: pairs")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long to train; default: 3")
    parser.add_argument("--steps", type=int, help="train for so many batches instead")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and held-out pairs; default: 0")
    chosen = parser.parse_args()
    import keras

    keras.utils.set_random_seed(chosen.seed)
    texts, wanted = sentences()
    english, french = vocabulary(texts, [UNKNOWN]), vocabulary(wanted, [START, STOP])
    print(f"{len(texts):,} pairs, {len(english):,} English words and {len(french):,} French ones, with signs")
    whole = Pairs(padded(texts, english), padded([[START, *text, STOP] for text in wanted], french))
    order = np.random.default_rng(chosen.seed).permutation(len(texts))
    kept_out = int(len(texts) * UNSEEN_SHARE)
    unseen, seen = (Pairs(*(ids[rows] for ids in whole)) for rows in (order[:kept_out], order[kept_out:]))
    model = network(len(english), len(french))
    unknown = english.index(UNKNOWN)
    train(model, seen, unknown, minutes=chosen.minutes, steps=chosen.steps, seed=chosen.seed)
    chosen.output.mkdir(parents=True, exist_ok=True)
    model.save(chosen.output / "translator.keras")
    for name, items in (("english", english), ("french", french)):
        (chosen.output / f"{name}.json").write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    print(f"written: {chosen.output}/translator.keras, english.json, french.json")
    show(model, seen, english, french, known=True)
    show(model, unseen, english, french, known=False)


if __name__ == "__main__":
    main()
