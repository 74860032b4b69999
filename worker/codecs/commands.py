"""Records that command instead of being scored: the header ``worker-command`` says what to do with the stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from worker.codecs.unusable import UnusableError, shown
from worker.records.arrays import FloatArray
from worker.records.events import Kind
from worker.records.record_batch import Headers, NotUtf8
from worker.records.states import StateLayout

COMMAND_HEADER = "worker-command"
NAME_CHARACTERS_SHOWN = 40
RESET, SET_STATE = b"reset", b"set-state"


def command_of(headers: Headers | None) -> bytes | None:
    """The command in a record's headers, None for ordinary records. The last one counts, as for all Kafka headers.

    Raises UnusableError for a header whose name can't be read: it may be the command.
    """
    found = None
    for name, value in headers or ():
        if isinstance(name, NotUtf8):
            raise UnusableError("not_utf8", f"the name of a header is not UTF-8: {name[:NAME_CHARACTERS_SHOWN]}")
        if name == COMMAND_HEADER:
            found = value or b""
    return found


def parse_command(command: bytes, value: Any, layout: StateLayout) -> tuple[Kind, FloatArray | None]:
    """What the command does, and for set-state, whose parsed value this is, the packed row (width,).

    Raises UnusableError.
    """
    if command == RESET:
        return Kind.RESET, None
    if command == SET_STATE:
        return Kind.SET_STATE, _packed(value, layout)
    name = shown(command.decode(errors="replace"))
    raise UnusableError("bad_command", f"'{name}' (header {COMMAND_HEADER}) is not a command; known: reset, set-state")


def _packed(parsed: Any, layout: StateLayout) -> FloatArray:
    states: Any = parsed.get("states") if isinstance(parsed, dict) else None
    if not _by_layer_and_name(states):
        raise UnusableError("bad_state", 'set-state takes {"states": {"LAYER": {"NAME": [numbers]}}}')
    _check_names(states, layout)
    row = layout.initial.copy()
    for (layer, name), (columns, shape) in layout.slices.items():
        what, dtype = f"state '{name}' of layer '{layer}'", layout.dtypes.get((layer, name), row.dtype)
        row[columns] = _numbers(states[layer][name], shape, dtype, what).ravel()
    return row


def _by_layer_and_name(states: Any) -> bool:
    def named(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(name, str) for name in value)  # MessagePack has others, too

    return named(states) and all(map(named, states.values()))


def _check_names(states: dict[str, dict[str, Any]], layout: StateLayout) -> None:
    # A misspelt state is missing, too; but the name is what is wrong.
    given = {(layer, name) for layer, named in states.items() for name in named}
    for layer, name in sorted(given - set(layout.slices)):
        which = f"state '{shown(name)}' of layer '{shown(layer)}'"
        raise UnusableError("bad_state", f"the model has no {which}; {_known(layout)}")
    for layer in sorted(states.keys() - {layer for layer, _ in layout.slices}):
        raise UnusableError("bad_state", f"the model has no states of layer '{shown(layer)}'; {_known(layout)}")
    for layer, name in sorted(set(layout.slices) - given):
        raise UnusableError("bad_state", f"state '{name}' of layer '{layer}' is missing; set-state sets every state")


def _numbers(given: Any, shape: tuple[int, ...], dtype: DTypeLike, what: str) -> FloatArray:
    try:
        numbers = np.array(given if _all_numbers(given) else None)
    except ValueError:  # lists of several lengths
        numbers = np.array(None)
    if numbers.ndim == 0 and numbers.item() is None:
        raise UnusableError("bad_state", f"{what}: wanted numbers of shape {list(shape)}, given something else")
    if numbers.shape != shape:
        raise UnusableError("bad_state", f"{what}: wanted shape {list(shape)}, given {list(numbers.shape)}")
    try:
        with np.errstate(over="ignore"):
            held = numbers.astype(np.float64).astype(dtype)
            finite = bool(np.isfinite(held).all())
    except OverflowError:  # of integers, which have no limit
        finite = False
    if not finite:
        kind = np.dtype(dtype).name
        raise UnusableError("not_finite", f"{what} holds a number that is not finite, or too large for {kind}")
    return numbers.astype(np.float64)


def _all_numbers(given: Any) -> bool:
    level = [given]
    while level:  # not by recursion: lists may be nested as deep as the parser takes them
        if not all(isinstance(each, list | int | float) and not isinstance(each, bool) for each in level):
            return False
        level = [inner for each in level if isinstance(each, list) for inner in each]
    return True


def _known(layout: StateLayout) -> str:
    if not layout.slices:
        return "its streams carry no states but the items of their source"
    return "it has " + ", ".join(f"'{layer}'/'{name}'" for layer, name in layout.slices)
