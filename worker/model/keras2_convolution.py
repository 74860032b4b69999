"""A convolution of Keras 2 with a padding that Keras 3 does not have for it."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.keras2_masks import PACKAGE

ops = keras.ops
KIND = "SeparableConv1D"


@keras.saving.register_keras_serializable(PACKAGE, KIND)
class SeparableConv1D(keras.layers.SeparableConv1D):  # type: ignore[misc]
    """With padding="causal": zeros before the first step, as many as the kernel reaches back."""

    of_keras_3 = keras.layers.SeparableConv1D

    def __init__(self, *given: Any, padding: str = "causal", **options: Any) -> None:
        super().__init__(*given, padding="valid", **options)
        self.padding = padding

    def call(self, inputs: Any) -> Any:
        before = (self.kernel_size[0] - 1) * self.dilation_rate[0]
        steps_last = self.data_format == "channels_first"
        widths = [[0, 0], [0, 0], [before, 0]] if steps_last else [[0, 0], [before, 0], [0, 0]]
        outputs = ops.separable_conv(
            ops.pad(inputs, widths),
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding="valid",
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        if self.use_bias:
            outputs = outputs + ops.reshape(self.bias, (1, -1, 1) if steps_last else (1, 1, -1))
        return outputs if self.activation is None else self.activation(outputs)
