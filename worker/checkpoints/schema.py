"""Which datasets a checkpoint has: their names, types and shapes."""

from __future__ import annotations

from collections.abc import Sequence

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


def state_path(layer: str, name: str) -> str:
    """Path of a state's dataset. '%' and '/' in names are written %25 and %2F, a name of dots only as %2E…"""
    return f"states/{_escaped(layer)}/{_escaped(name)}"


def _escaped(name: str) -> str:
    assert name, "a layer or state without a name"
    safe = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return safe if safe.strip(".") else safe.replace(".", "%2E")


def check_schema(datasets: dict[str, h5py.Dataset], specs: Sequence[StateSpec]) -> None:
    """Names, types and shapes, before any data is read. Raises UnusableColumnError."""
    rows = datasets["keys"].shape[0] if datasets["keys"].ndim == 1 else -1
    forgotten = datasets["forgotten/keys"].shape[0] if datasets["forgotten/keys"].ndim == 1 else -1
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        name: ((forgotten if name.startswith("forgotten/") else rows,), dtype)
        for name, dtype in {**NUMBERS, **dict.fromkeys(TEXTS, "text")}.items()
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
