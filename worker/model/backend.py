"""The one place that imports TensorFlow and Keras: silenced first, so that users see only the worker's own lines.

Every other module of ``worker.model`` takes ``tf`` and ``keras`` from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import WorkerError

SILENT = "3"


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Silence the C++ libraries while they are loaded, unless the user has asked for a lower log level himself.

    TensorFlow 2.21 writes its oneDNN notice straight to file descriptor 2 before it has read any log level, so the
    variable alone is not enough. Errors of the import are Python exceptions and pass.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", SILENT) != SILENT:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"

with _quiet_import():
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise WorkerError(
        f"Keras runs on the backend '{keras.backend.backend()}', the worker needs 'tensorflow': "
        "set KERAS_BACKEND=tensorflow before Keras is imported"
    )

__all__ = ["keras", "tf"]
