"""Which datasets a checkpoint has: their names, types and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import h5py

from worker.checkpoints.columns import UnusableColumnError
from worker.records.states import StateSpec

# Of each stream one number; named as in PartitionState. A new column is a line here, there and in the documents.
STREAM_NUMBERS = {
    "steps": "int64",
    "times": "int64",
    "clocks": "int64",
    "touched": "int64",
    "pending": "uint8",
}
NUMBERS = {**STREAM_NUMBERS, "forgotten/resets": "uint8"}
TEXTS = ("keys", "sequences", "forgotten/keys")

# Only of tasks that generate, all of them or none.
GENERATING_NUMBERS = {"drawn": "int64", "records": "int64"}
UNFINISHED = {"unfinished/offsets": "int64", "unfinished/resets": "uint8", "unfinished/finals": "uint8"}
UNFINISHED_STREAMS = "unfinished/keys"
ITEMS = "items"
STATES = "states/"
GENERATING = {**GENERATING_NUMBERS, **UNFINISHED, UNFINISHED_STREAMS: "text", ITEMS: "text"}


def state_path(layer: str, name: str) -> str:
    """Path of a state's dataset. '%' and '/' in names are written %25 and %2F, a name of dots only as %2E…"""
    return f"{STATES}{_escaped(layer)}/{_escaped(name)}"


def _escaped(name: str) -> str:
    assert name, "a layer or state without a name"
    safe = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return safe if safe.strip(".") else safe.replace(".", "%2E")


def specs_in(datasets: Mapping[str, h5py.Dataset]) -> list[StateSpec]:
    """The states that a file has."""
    specs = []
    for path, dataset in datasets.items():
        if path.startswith(STATES):
            layer, _, name = path.removeprefix(STATES).partition("/")
            specs.append(StateSpec(unquote(layer), unquote(name), tuple(dataset.shape[1:]), dataset.dtype.name))
    return specs


def _rows(datasets: dict[str, h5py.Dataset], name: str) -> int:
    return datasets[name].shape[0] if name in datasets and datasets[name].ndim == 1 else -1


def check_schema(datasets: dict[str, h5py.Dataset], specs: Sequence[StateSpec]) -> None:
    """Names, types and shapes, before any data is read. Raises UnusableColumnError."""
    columns = {**NUMBERS, **dict.fromkeys(TEXTS, "text"), **(GENERATING if ITEMS in datasets else {})}
    rows = _rows(datasets, "keys")
    lengths = {
        each: _rows(datasets, f"{each}/{first}") for each, first in (("forgotten", "keys"), ("unfinished", "offsets"))
    }
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        name: ((lengths.get(name.partition("/")[0], rows),), dtype) for name, dtype in columns.items()
    }
    for spec in specs:
        wanted[state_path(spec.layer, spec.name)] = ((rows, *spec.shape), spec.dtype)
    if "emitted" in datasets:
        units = datasets["emitted"].shape[1] if datasets["emitted"].ndim == 2 else -1
        wanted["emitted"] = ((rows, units), datasets["emitted"].dtype.name)
    if wanted.keys() != datasets.keys():
        raise UnusableColumnError(f"'{min(wanted.keys() ^ datasets.keys())}' is missing or not expected")
    for name, (shape, dtype) in wanted.items():
        dataset = datasets[name]
        text = h5py.check_string_dtype(dataset.dtype) is not None
        given = "text" if text else dataset.dtype.name if dataset.dtype.byteorder != ">" else dataset.dtype.str
        if (dataset.shape, given) != (shape, dtype) or (name == "emitted" and dataset.dtype.kind != "f"):
            raise UnusableColumnError(f"'{name}' is {given} {dataset.shape}, wanted {dtype} {shape}")
