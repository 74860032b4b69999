"""An error that TensorFlow raises because of a row's numbers, such as an id that an Embedding does not know.

A batch fails as a whole. Which of its rows are to blame is found by halving: a row's result does not depend on the rows
around it, and so neither does whether it has one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from worker.errors import printable
from worker.model.backend import tf
from worker.model.graph import first_line
from worker.records.arrays import IntArray
from worker.records.failing_rows import FailingRowsError

# What operations say about what they are given; UnknownError is of Python functions in a graph. Not among them is what
# a machine says of itself, such as ResourceExhaustedError.
ROW_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.UnknownError)
REASON_CHARACTERS_LIMIT = 200
_PLACES = re.compile(
    r"\{\{.*?\}\}|\[Op:.*|\d+ root error\(s\) found\.|\(\d+\) [A-Z_]+:|Graph execution error:"
    r"|Detected at node.*|^\s*File \".*|<stack traces unavailable>",
    re.MULTILINE,
)


def failing_rows(
    error: Exception, rows: int, run: Callable[[IntArray], object], sound: Callable[[], object]
) -> FailingRowsError:
    """Which of so many rows have raised this error in one call. ``run`` computes those of these indices again.

    Raises the error itself where it is not the rows' own: none of them fails alone, or rows that are ``sound`` fail,
    too.
    """
    reasons: dict[int, str] = {}
    parts = [np.arange(rows)]
    while parts:
        part = parts.pop()
        found = error if len(part) == rows else _error_of(partial(run, part))
        if found is not None and len(part) == 1:
            reasons[int(part[0])] = reason_of(found)
        elif found is not None:
            parts += [part[len(part) // 2 :], part[: len(part) // 2]]
    if not reasons or (len(reasons) == rows and _error_of(sound) is not None):
        raise error
    return FailingRowsError(reasons)


def computable(rows: int, run: Callable[[IntArray], object]) -> IntArray:
    """As many indices as there are rows, only of those at which the model raises no error: some are there twice then.

    ``run`` computes those of these indices. Raises FailingRowsError where it is all.
    """
    every = np.arange(rows)
    try:
        run(every)
    except FailingRowsError as failing:
        good = every[failing.others(rows)]
        if not len(good):
            raise
        return np.resize(good, rows)
    return every


def reason_of(error: Exception) -> str:
    """The first line that says what is wrong, without TensorFlow's names of functions, which change with each start."""
    text = _PLACES.sub("", str(getattr(error, "message", error)))
    line = printable(first_line(ValueError(text))).strip()
    return line if len(line) <= REASON_CHARACTERS_LIMIT else f"{line[: REASON_CHARACTERS_LIMIT - 1]}…"


def _error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except ROW_ERRORS as error:
        return error  # type: ignore[no-any-return]
    return None
