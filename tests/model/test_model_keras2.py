"""Files of Keras 2: what streams is what Keras 2 itself answers. tf-keras writes them in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.keras2 import needs_keras_2, written_by
from worker import GenerativeModel, ModelRefusedError, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.files.loading import load_model
from worker.model.proof.flexible import flexible_copy

pytestmark = pytest.mark.zoo

TOLERANCE = 1e-5
L = keras.layers

STREAMED = [
    *("lstm", "embedding", "time_distributed", "branches", "last_step", "nested", "shared", "reset_after"),
    *("reset_before", "stateful", "unrolled", "masked", "training", "normalized", "normalizations", "slopes", "cells"),
    *(
        "masked_words",
        "masked_branches",
        "masked_mean",
        "masked_zeros",
        "causal",
        "masks_dropped",
        "masked_identity",
        "part_per_step",
        "two_inputs",
    ),
    *("pictures", "hard_lstm", "hard_gru", "hard_gru_reset_before", "hard_simple", "float64"),
    *("operator", "numbers", "features", "over_time", "nodes", "cudnn", "separable", "binned"),
]
STREAMED += [
    f"masked_{kind}" for kind in ("add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate")
]
STREAMED += ["masks_dropped", "masked_identity", "undone", "thresholds", "fractions", "fractions_float64"]
STREAMED += ["whole_dtypes", "looked_up", "exact_mask_half", "exact_mask_double", "causal_separable", "not_wrapped"]
STREAMED += ["compared_half", "compared_double"]
# Keras 3 multiplies halves in another order.
TOLERANCES = {"exact_mask_half": 2e-3}
# They can't be streamed, but they are read, and by the numbers of Keras 2.
READ = ["activations", "encoder_and_decoder", "flattened", "bidirectional"]
REFUSED = {
    "bidirectional": ("bidirectional", "steps that have not arrived yet"),
    "hard_cell_state": ("lstm", "hard_sigmoid"),
    "hard_alone": ("activation", "hard_sigmoid"),
    "two_axes": ("layer_normalization", "axis"),
    "cudnn_both_ways": ("bidirectional", "steps that have not arrived yet"),
    "dropped": ("tf.nn.dropout", "it is tf.nn.dropout, an operation of Keras 2"),
    "transposed": ("tf.linalg.matmul", "it is tf.linalg.matmul with transpose_b, an operation of Keras 2"),
    "local": ("locally_connected1d", "its class 'LocallyConnected1D' was in Keras 2 and is not in Keras 3"),
    "learned": ("discretization", "its boundaries, which Keras 2 has learned, are not in the file"),
    "residual": ("residual_wrapper", "its class 'ResidualWrapper' was in Keras 2 and is not in Keras 3"),
    "on_a_device": ("device_wrapper", "its class 'DeviceWrapper' was in Keras 2"),
    "dropping_cell": ("dropout_wrapper", "its class 'DropoutWrapper' was in Keras 2"),
    "addon": ("tripled", "its class 'Tripled' is of TensorFlow Addons"),
    "own_operation": ("tf.tile", "it is tf.tile, an operation of Keras 2"),
    "python": ("culprit", "not run"),
    "masks_inside": ("time_distributed", "Keras 2 hands the mask of 'Masking' on from TimeDistributed"),
    "masked_start": ("gru", "it is given an initial state and a mask: Keras 2 leaves masked steps out then"),
}

CUDNN_KERAS = ("cudnn_both_ways", "keras")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_by("tests.keras2_files", tmp_path_factory.mktemp("keras2"))


def answers(folder: Path, name: str) -> dict[str, Any]:
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


def fed(model: Any, x: Any) -> Any:
    """The vectors as the model's inputs take them."""
    if len(model.inputs) == 1:
        return x
    return np.split(x, np.cumsum([tensor.shape[-1] for tensor in model.inputs])[:-1], axis=-1)


@needs_keras_2
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *((name, "h5") for name in READ),
        *((name, "keras") for name in (*STREAMED, *READ) if name not in ("features", "cudnn", "masked_concatenate")),
    ],
)
def test_keras_3_answers_as_keras_2_did(written: Path, name: str, suffix: str) -> None:
    wanted = answers(written, name)
    model, _ = load_model(written / f"{name}.{suffix}")
    given = np.asarray(model(fed(model, wanted["x"]), training=False))
    assert given.shape == wanted["whole"].shape
    np.testing.assert_allclose(given, wanted["whole"], rtol=0, atol=TOLERANCES.get(name, TOLERANCE))


@needs_keras_2
@pytest.mark.parametrize("name", STREAMED)
def test_what_streams_is_what_keras_2_answers(written: Path, name: str) -> None:
    wanted = answers(written, name)
    model = StreamingModel.load(written / f"{name}.h5")
    x = wanted["x"].reshape(*wanted["x"].shape[:2], -1)
    streamed = np.swapaxes(model.scan(np.swapaxes(x, 0, 1), model.zero_states(len(x)))[0], 0, 1)
    whole = wanted["whole"]
    np.testing.assert_allclose(
        streamed if whole.ndim == 3 else streamed[:, -1], whole, rtol=0, atol=TOLERANCES.get(name, TOLERANCE)
    )
    if "prefixes" in wanted:
        known = np.isfinite(wanted["prefixes"])  # a mean over no steps at all is not a number to Keras
        assert known.mean() > 0.9
        np.testing.assert_allclose(
            streamed[known], wanted["prefixes"][known], rtol=0, atol=TOLERANCES.get(name, TOLERANCE)
        )


@needs_keras_2
@pytest.mark.parametrize(
    ("name", "suffix"), [(name, kind) for name in REFUSED for kind in ("h5", "keras") if (name, kind) != CUDNN_KERAS]
)
def test_what_has_no_equal_is_refused_by_name(written: Path, name: str, suffix: str) -> None:
    layer, why = REFUSED[name]
    with pytest.raises(ModelRefusedError, match=why) as error:
        StreamingModel.load(written / f"{name}.{suffix}")
    assert error.value.layer.rstrip("_0123456789") == layer
    assert "\n" not in str(error.value)


@needs_keras_2
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_model_of_keras_2_writes_what_its_growing_window_does(written: Path, suffix: str) -> None:
    model = GenerativeModel.load(written / f"embedding.{suffix}")
    assert (model.units, model.one_hot, model.logits) == (11, False, False)
    model.check_parity(1e-5)
    trained = flexible_copy(load_model(written / f"embedding.{suffix}")[0], model.streaming.inputs)
    text = [3]
    for _ in range(20):
        text.append(int(np.argmax(np.asarray(trained([np.array([text])]))[0, -1])))
    assert model.generate_tokens([[3]], 20, temperature=0)[0] == [text[1:]]


@needs_keras_2
def test_a_residual_cell_is_a_sum_with_the_same_weights(written: Path) -> None:
    """As its refusal says; both models are shaken alike."""
    with pytest.raises(ModelRefusedError) as refusal:
        load_model(written / "residual.h5")
    assert "Add()([x, RNN(cell, return_sequences=True)(x)])" in refusal.value.instead
    np.testing.assert_allclose(
        answers(written, "residual")["whole"], answers(written, "not_wrapped")["whole"], atol=1e-6
    )


@needs_keras_2
def test_the_exported_model_needs_nothing_of_the_worker(written: Path, tmp_path: Path) -> None:
    """A hard_sigmoid of Keras 2 is in the weights afterwards, so plain Keras reads it."""
    model = StreamingModel.load(written / "hard_lstm.h5")
    model.to_keras().save(tmp_path / "step.keras")
    plain = keras.models.load_model(tmp_path / "step.keras")
    x = answers(written, "hard_lstm")["x"][:, :1]
    given = keras.tree.flatten(plain([x, *model.zero_states(len(x))]))[0]
    wanted, _ = model.step(x[:, 0], model.zero_states(len(x)))
    np.testing.assert_allclose(np.asarray(given).reshape(wanted.shape), wanted, rtol=0, atol=TOLERANCE)


@needs_keras_2
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_allowed_code_of_keras_2_is_run(written: Path, suffix: str) -> None:
    wanted = answers(written, "python")
    model = StreamingModel.load(written / f"python.{suffix}", allow_lambda=True)
    streamed, _ = model.scan(np.swapaxes(wanted["x"], 0, 1), model.zero_states(4))
    np.testing.assert_allclose(streamed[-1], wanted["whole"], rtol=0, atol=TOLERANCE)


@needs_keras_2
@pytest.mark.parametrize("folder", ["folder", "old_folder"])
def test_a_saved_model_is_refused_with_advice_that_works(written: Path, folder: str) -> None:
    with pytest.raises(WorkerError) as error:
        StreamingModel.load(written / folder)
    assert "\n" not in str(error.value)
    assert "tf_keras.models.load_model(FOLDER, compile=False).save('model.h5')" in str(error.value)
    wanted = answers(written, "lstm")  # from_folder.h5 and the other were made exactly so
    given = np.asarray(load_model(written / f"from_{folder}.h5")[0](wanted["x"]))
    np.testing.assert_allclose(given, wanted["whole"], rtol=0, atol=TOLERANCE)


@needs_keras_2
def test_layers_of_a_gpu_are_read_from_one_format_only(written: Path) -> None:
    with pytest.raises(ModelRefusedError, match=r"CuDNNLSTM is converted from \.h5 files only") as error:
        load_model(written / "cudnn.keras")
    assert error.value.instead == "save the model where it was built with model.save('model.h5')"
    assert_same(written / "cudnn.h5", answers(written, "cudnn"))  # made exactly so


class Tripled(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return 3.0 * x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@needs_keras_2
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_class_of_addons_may_be_written_anew(written: Path, suffix: str) -> None:
    """As its refusal says."""
    wanted = answers(written, "addon")
    model, _ = load_model(written / f"addon.{suffix}", custom_objects=[sys.modules[__name__]])
    np.testing.assert_allclose(np.asarray(model(wanted["x"])), wanted["whole"], rtol=0, atol=TOLERANCE)


def as_tensorflow_2_0(config: Any) -> None:
    """One tensor without a list around it, and the class Model, in nested models too."""
    if config.get("class_name") == "Functional":
        config["class_name"] = "Model"
    for layer in config["config"]["layers"]:
        calls = layer.get("inbound_nodes", [])
        layer["inbound_nodes"] = [call[0] if len(call) == 1 and isinstance(call[0], list) else call for call in calls]
        if "layers" in layer["config"]:
            as_tensorflow_2_0(layer)


@needs_keras_2
@pytest.mark.parametrize(
    "name", ["nested", "shared", "two_inputs", "masked_branches", "encoder_and_decoder", "last_step", "over_time"]
)
def test_functional_files_of_tensorflow_1_14_to_2_0_are_read(written: Path, tmp_path: Path, name: str) -> None:
    def change(config: Any, file: Any) -> None:
        as_tensorflow_2_0(config)
        file.attrs["keras_version"] = "2.2.4-tf"

    assert_same(rewritten(written / f"{name}.h5", tmp_path / "old.h5", change), answers(written, name))


def test_an_exported_folder_has_no_layers_any_more(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, 3)), L.GRU(2)])
    model.export(tmp_path / "folder", verbose=False)
    with pytest.raises(WorkerError, match=r"no layers any more.*model\.save\('model\.keras'\)"):
        StreamingModel.load(tmp_path / "folder")


def rewritten(source: Path, target: Path, change: Any) -> Path:
    """The .h5 file with ``change`` applied to its configuration and its attributes."""
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config, file)
        file.attrs["model_config"] = json.dumps(config)
    return target


def assert_same(path: Path, wanted: dict[str, Any]) -> None:
    model, _ = load_model(path)
    given = np.asarray(model(fed(model, wanted["x"]), training=False))
    np.testing.assert_allclose(given, wanted["whole"], rtol=0, atol=TOLERANCE)


@needs_keras_2
def test_a_sequential_of_the_first_keras_2_is_read(written: Path, tmp_path: Path) -> None:
    """A plain list of layers without an input, initializers with a dtype, no reset_after: 2.0 to 2.2."""

    def change(config: Any, file: Any) -> None:
        layers = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        for layer in layers:
            layer["config"].pop("reset_after", None)
            layer["config"].pop("time_major", None)
            old = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None, "dtype": "float32"}
            layer["config"]["kernel_initializer"] = {"class_name": "VarianceScaling", "config": old}
        config["config"] = layers
        file.attrs["keras_version"] = b"2.0.8"

    for name in ("reset_before", "hard_gru_reset_before"):
        assert_same(rewritten(written / f"{name}.h5", tmp_path / "old.h5", change), answers(written, name))


@needs_keras_2
def test_the_class_model_is_a_functional_one(written: Path, tmp_path: Path) -> None:
    def change(config: Any, file: Any) -> None:
        config["class_name"] = "Model"
        file.attrs["keras_version"] = "2.2.4-tf"

    assert_same(rewritten(written / "branches.h5", tmp_path / "old.h5", change), answers(written, "branches"))


@needs_keras_2
def test_weights_go_to_layers_by_name_and_not_by_order(written: Path, tmp_path: Path) -> None:
    def change(_: Any, file: Any) -> None:
        names = list(file["model_weights"].attrs["layer_names"])
        file["model_weights"].attrs["layer_names"] = names[::-1]

    assert_same(rewritten(written / "branches.h5", tmp_path / "old.h5", change), answers(written, "branches"))


@needs_keras_2
def test_files_of_keras_1_are_refused(written: Path, tmp_path: Path) -> None:
    def change(_: Any, file: Any) -> None:
        file.attrs["keras_version"] = "1.2.2"

    with pytest.raises(WorkerError, match="saved by Keras 1"):
        load_model(rewritten(written / "lstm.h5", tmp_path / "old.h5", change))
