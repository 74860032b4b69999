"""Loads the weights of a file into a model that has been built: into the right layers, and nothing else."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.files.configuration import Config

_SAVING = keras.src.saving
_LEGACY = keras.src.legacy.saving


def load_state(model: Any, stored: bytes, vocabularies: dict[str, bytes]) -> None:
    """Weights and vocabularies: no other assets and no pickles, whatever else the archive has."""
    saving = _SAVING.saving_lib
    failed: set[int] = set()
    messages: dict[Any, Any] = {}
    with tempfile.TemporaryDirectory() as folder:  # Keras takes vocabularies from files only
        for name, content in vocabularies.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(content)
        assets = str(Path(folder) / "assets")
        saving._load_state(
            model,
            weights_store=saving.H5IOStore(io.BytesIO(stored), mode="r"),
            assets_store=saving.DiskIOStore(assets, mode="r") if vocabularies else None,
            inner_path="",
            visited_saveables=set(),
            failed_saveables=failed,
            error_msgs=messages,
        )
    if failed:
        saving._raise_loading_failure(messages)


def order_by_name(weights: Any, model: Any) -> None:
    """Keras assigns weights to layers in order, which may differ between Keras 2 and Keras 3: use the names."""
    saved = list(_LEGACY.legacy_h5_format.load_attributes_from_hdf5_group(weights, "layer_names"))
    built = [layer.name for layer in model.layers]
    wanted = [name for name in built if name in saved]
    if wanted != [name for name in saved if name in built]:
        for key in [key for key in weights.attrs if key.startswith("layer_names")]:
            del weights.attrs[key]
        _LEGACY.legacy_h5_format.save_attributes_to_hdf5_group(weights, "layer_names", [n.encode() for n in wanted])


def check_order(model: Any, config: Config, named: bool) -> None:
    """Weights of .keras files and of nested models have no names to go by, only the order of the layers."""
    entries = [entry for entry in config["config"]["layers"] if isinstance(entry.get("config"), dict)]
    built = {layer.name: layer for layer in model.layers}
    if not named and [e["config"].get("name") for e in entries if e["config"].get("name") in built] != list(built):
        raise ModelRefusedError(
            model.name,
            f"Keras {keras.__version__} has its layers in another order than Keras 2, and their weights have no names",
            "save the model without nested models, as .h5, with tf-keras",
        )
    for entry in entries:
        if isinstance(entry["config"].get("layers"), list):
            check_order(built[entry["config"]["name"]], entry, False)
