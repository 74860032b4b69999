"""All rules of the project: importing this module registers them."""

from __future__ import annotations

from worker.model import per_step, recurrent, refused

__all__ = ["per_step", "recurrent", "refused"]
