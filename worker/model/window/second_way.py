"""The way that is left for a model that can't be streamed: the window form, offered where it has been tried."""

from __future__ import annotations

from typing import Any
from warnings import catch_warnings

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.window.form import WindowForm
from worker.model.window.opening import fixed_length, open_model
from worker.model.window.proof import against_original, samples
from worker.model.window.window import Window

TRIED_STEPS = 16  # where the model takes windows of any length
TRIED_SEQUENCES = 5
LOUDNESS = (1e-4, 1e4, 1, 1e-2, 1e2)  # of them: what is beside a sequence would show
TOLERANCE = 1e-4


def with_second_way(refusal: ModelRefusedError, model: Any) -> ModelRefusedError:
    """The same refusal, with the way that is left, where there is one."""
    steps = fixed_length(model)
    if not _answers(model, steps or TRIED_STEPS):
        return refusal
    way = f"the last {steps} events: model.window: {steps}" if steps else "the last N events: model.window: N"
    of_any_length = "" if steps else ", N as long as what it was trained on"
    return ModelRefusedError(refusal.layer, refusal.why, refusal.instead, f"or run it on {way}{of_any_length}")


def _answers(model: Any, steps: int) -> bool:
    """Whether the model, as it is, answers each window alone: the same every time, and whatever is beside it."""
    try:
        with catch_warnings(action="ignore"):
            form = WindowForm(open_model(model, steps), Window(steps))
            xs = np.swapaxes(samples(model, form.inputs, TRIED_SEQUENCES, steps, 0), 0, 1).astype(form.dtype)
            for part in form.inputs:
                if part.ids is None and part.dtype.startswith("float"):
                    xs[..., part.columns] *= np.array(LOUDNESS)[:, np.newaxis]
            first = np.tile(form.layout.initial, (TRIED_SEQUENCES, 1))
            together, again = (form.scan(xs, first)[0] for _ in range(2))
            turned = form.scan(xs[:, ::-1], first)[0][:, ::-1]
            alone = form.scan(xs[:, :1], first[:1])[0]
            copied = against_original(model, form, 0)
    except Exception:  # noqa: BLE001 (whatever the model's own code raises: then this is no way)
        return False
    finite = bool(np.isfinite(together).all()) and copied <= TOLERANCE
    others = ((together, again), (together, turned), (together[:, :1], alone))
    return finite and all(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE) for one, other in others)
