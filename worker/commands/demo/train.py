"""Train the demonstration's model: ``python -m worker.commands.demo.train``.

Rule of this file: TRAIN part only, fixed seeds, one thread, deterministic operations. What is saved is an ordinary
stateless model of whole windows, as users have them; that it answers after every step is the worker's doing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from worker.commands.demo.motions import CHANNELS, LABELS, MODEL_PATH, REPORTED_STEPS, STEPS, Motions, load

SEED = 7
UNITS = 32
EPOCHS = 60
BATCH = 10
LEARNING_RATE = 0.01
GRADIENT_NORM = 1.0
DROPOUT = 0.3
NOISE = 0.1  # added in training, in units of each channel's standard deviation
CROP_STEPS = 20  # training windows start at a random step below this: a watch is not switched on at a fixed moment
LEAST_ACCURACY = 0.9  # at the last step of the TEST part; below it nothing is written


def make_deterministic(seed: int = SEED) -> None:
    """Same weights on every run on one machine. Must come before TensorFlow's first operation."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)


def network(train: Motions, *, every_step: bool) -> Any:
    """(batch, time, 6) → (batch, 4), or (batch, time, 4) with ``every_step``: the same weights fit both."""
    import keras

    normalization = keras.layers.Normalization(name="normalization")
    normalization.adapt(train.vectors)
    return keras.Sequential(
        [
            keras.Input((None, len(CHANNELS))),
            normalization,
            keras.layers.GRU(UNITS, return_sequences=every_step, name="gru"),
            keras.layers.Dropout(DROPOUT, name="dropout"),
            keras.layers.Dense(len(LABELS), activation="softmax", name="probabilities"),
        ],
        name="basic_motions",
    )


def trained(train: Motions, *, epochs: int = EPOCHS, seed: int = SEED) -> Any:
    """The window model (batch, time, 6) → (batch, 4), fitted so that every prefix of a sequence gets a fair answer.

    The loss is taken at every step, on a copy that returns sequences; the weights then move into the window model.
    """
    import keras

    stepwise = network(train, every_step=True)
    optimizer = keras.optimizers.Adam(LEARNING_RATE, clipnorm=GRADIENT_NORM)
    stepwise.compile(optimizer, "sparse_categorical_crossentropy")
    random = np.random.default_rng(seed)
    deviation = train.vectors.std(axis=(0, 1))
    length = STEPS - CROP_STEPS
    targets = np.repeat(train.classes[:, None], length, axis=1)
    for _ in range(epochs):
        start = random.integers(CROP_STEPS + 1)
        windows = train.vectors[:, start : start + length]
        noise = random.normal(0.0, NOISE, windows.shape) * deviation
        stepwise.fit((windows + noise).astype(np.float32), targets, batch_size=BATCH, verbose=0)
    windowed = network(train, every_step=False)
    windowed.set_weights(stepwise.get_weights())
    return windowed


def accuracies(model: Any, part: Motions, steps: Sequence[int] = REPORTED_STEPS) -> NDArray[np.float64]:
    """Share of right answers after each of ``steps``, each prefix given to the window model by itself: (steps,)."""
    hits = [model.predict(part.vectors[:, :step], verbose=0).argmax(axis=-1) == part.classes for step in steps]
    return np.array([hit.mean() for hit in hits], dtype=np.float64)


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=MODEL_PATH, show_default=True)
def main(output: Path) -> None:
    """Train on the TRAIN part, print the accuracy on the TEST part, write the model.

    Example: python -m worker.commands.demo.train --output /tmp/basic_motions.keras
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    make_deterministic()
    model = trained(load("TRAIN"))
    shares = accuracies(model, load("TEST"))
    for step, share in zip(REPORTED_STEPS, shares, strict=True):
        click.echo(f"TEST accuracy after {step:3d} steps: {share:.3f}")
    if shares[-1] < LEAST_ACCURACY:
        raise click.ClickException(f"accuracy {shares[-1]:.3f} is below {LEAST_ACCURACY}: {output} is left as it was")
    model.save(output)
    click.echo(f"written: {output} ({output.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
