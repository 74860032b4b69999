"""Records that command instead of being scored: the header ``worker-command`` says what to do with the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np

from worker.codecs.values import UnusableError
from worker.records import FloatArray, Headers, Kind

COMMAND_HEADER = "worker-command"

Slices: TypeAlias = Mapping[tuple[str, str], tuple[slice, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """Where each layer's state is in a packed row, for ``set-state``: (layer, name) → (slice, shape)."""

    slices: Slices
    initial: FloatArray


def command_of(headers: Headers | None) -> bytes | None:
    """The command in a record's headers, None for ordinary records. The last one counts, as for all Kafka headers."""
    found = None
    for name, value in headers or ():
        if name == COMMAND_HEADER:
            found = value or b""
    return found


def parse_command(command: bytes, value: bytes | None, layout: StateLayout) -> tuple[Kind, FloatArray | None]:
    """What the command does, and for set-state the packed row (width,). Raises UnusableError."""
    if command == b"reset":
        return Kind.RESET, None
    if command == b"set-state":
        return Kind.SET_STATE, _packed(value, layout)
    name = command[:40].decode(errors="replace")
    raise UnusableError("bad_command", f"'{name}' (header {COMMAND_HEADER}) is not a command; known: reset, set-state")


def _packed(value: bytes | None, layout: StateLayout) -> FloatArray:
    try:
        parsed = msgspec.json.decode(value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnusableError("not_json", f"the value of set-state is not JSON: {error}") from None
    states = parsed.get("states") if isinstance(parsed, dict) else None
    if not isinstance(states, dict) or not all(isinstance(layer, dict) for layer in states.values()):
        raise UnusableError("bad_state", 'set-state takes {"states": {"LAYER": {"NAME": [numbers]}}}')
    given = {(layer, name) for layer, parts in states.items() for name in parts}
    wanted = set(layout.slices)
    for layer, name in sorted(wanted - given):
        raise UnusableError("bad_state", f"state '{name}' of layer '{layer}' is missing; set-state sets every state")
    for layer, name in sorted(given - wanted):
        raise UnusableError("bad_state", f"the model has no state '{name}' of layer '{layer}'; {_known(layout)}")
    row = layout.initial.copy()
    for (layer, name), (part, shape) in layout.slices.items():
        row[part] = _numbers(states[layer][name], shape, f"state '{name}' of layer '{layer}'").ravel()
    return row


def _numbers(given: Any, shape: tuple[int, ...], what: str) -> FloatArray:
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
            finite = bool(np.isfinite(numbers.astype(np.float32)).all())
    except OverflowError:  # of integers, which have no limit
        finite = False
    if not finite:
        raise UnusableError("not_finite", f"{what} holds a number that is not finite")
    return numbers.astype(np.float64)


def _all_numbers(given: Any) -> bool:
    if isinstance(given, list):
        return all(map(_all_numbers, given))
    return isinstance(given, int | float) and not isinstance(given, bool)


def _known(layout: StateLayout) -> str:
    return "it has " + ", ".join(f"'{layer}'/'{name}'" for layer, name in layout.slices)
