"""Keras recurrent networks on Kafka: one state per stream, a probability after every event."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.errors import ModelRefusedError, StateShapeError
    from worker.model.encoder_decoder import EncoderDecoder
    from worker.model.generative import GenerativeModel
    from worker.model.streaming import StreamingModel
    from worker.records.states import StateSpec

__version__ = "0.1.0"
__all__ = [
    "EncoderDecoder",
    "GenerativeModel",
    "ModelRefusedError",
    "StateShapeError",
    "StateSpec",
    "StreamingModel",
    "__version__",
]

_HOMES = {
    "EncoderDecoder": "worker.model.encoder_decoder",
    "GenerativeModel": "worker.model.generative",
    "ModelRefusedError": "worker.errors",
    "StateShapeError": "worker.errors",
    "StateSpec": "worker.records.states",
    "StreamingModel": "worker.model.streaming",
}


def __getattr__(name: str) -> Any:
    # Lazily: `import worker` must not import TensorFlow, or every command would wait for it.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'worker' has no attribute '{name}'")
