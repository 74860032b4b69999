"""numpy arrays and tensors that share their memory: TensorFlow's own conversion takes as long as half a small step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from worker.model.backend import tf

ALIGNMENT_BYTES = 64  # kernels use instructions that need this alignment (EIGEN_MAX_ALIGN_BYTES), and nobody checks it


def shared(shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], Any]:
    """A new array of any content, and the tensor of the same memory: fill the first, then hand over the second.

    Nobody may change the array after that. By DLPack (https://dmlc.github.io/dlpack/latest/), without a copy; the
    tensor keeps the memory.
    """
    wanted = np.dtype(dtype)
    size_bytes = wanted.itemsize
    for length in shape:
        size_bytes *= length
    octets = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
    begin = -octets.ctypes.data % ALIGNMENT_BYTES
    array = octets[begin : begin + size_bytes].view(wanted).reshape(shape)
    return array, tf.experimental.dlpack.from_dlpack(array.__dlpack__())
