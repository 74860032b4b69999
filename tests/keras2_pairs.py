"""Writes encoder-decoder models with Keras 2, and what Keras 2 answers: python -m tests.keras2_pairs FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tf_keras as keras

from tests.keras2_files import F, L, shaken


def main(folder: Path) -> None:
    """Models [source, target] → y under teacher forcing, as the tutorials of Keras 2 have them, and the tutorial's two.

    ``answers``: to the same source and target after each item, where Keras 2 leaves masked steps out.
    """
    rng, vectors, ids = np.random.default_rng(3), (keras.Input((None, F)), keras.Input((None, 5))), {"dtype": "int32"}
    source, target = vectors
    encoder, decoder = L.LSTM(4, return_state=True), L.LSTM(4, return_sequences=True, return_state=True)
    dense, states = L.Dense(5, activation="softmax"), encoder(source)[1:]
    made = {"tutorial": keras.Model([source, target], dense(decoder(target, initial_state=states)[0]))}
    words = keras.Input((None,), **ids), keras.Input((None,), **ids)
    read, written = (L.Embedding(5, 3, mask_zero=True)(x) for x in words)
    y = L.GRU(4, return_sequences=True)(written, initial_state=L.GRU(4)(read))
    made["masked"] = keras.Model(list(words), L.Dense(5, activation="softmax")(L.LSTM(3, return_sequences=True)(y)))
    for name, model in made.items():
        shaken(model).save(folder / f"pair_{name}.h5")
        model.save(folder / f"pair_{name}.keras")
        masked = name == "masked"
        x = [rng.integers(0, 5, (3, n)) if masked else rng.normal(size=(3, n, w)) for n, w in ((6, F), (4, 5))]
        if masked:
            x[1][:, 0] = 1  # texts begin with an item that counts
            x[0][0, 2] = x[0][1, 0] = x[1][1, 2] = x[1][2, 1] = 0
        np.savez(folder / f"pair_{name}", source=x[0], target=x[1], answers=np.array(model(x)))
    given = [keras.Input((4,)), keras.Input((4,))]
    y, *after = decoder(target, initial_state=given)
    keras.Model(source, states).save(folder / "pair_encoder.h5")
    keras.Model([target, *given], [dense(y), *after]).save(folder / "pair_decoder.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
