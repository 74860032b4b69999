"""The faults, and what the runbook says against each. Neither waits for what comes of it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.sequences import save_model
from tests.trial.group import Group, Load

FILLER = "filler"
THROTTLED = 0.03  # of a processor's time

Act = Callable[[Group], None]


@dataclass(frozen=True)
class Fault:
    """``awaited``: the alerts after which the remedy is applied."""

    what: str
    awaited: frozenset[str]
    strike: Act
    remedy: Act
    load: Load = field(default_factory=Load)


def _restart(group: Group) -> None:
    group.broker.restart()


def _full(group: Group) -> None:
    """The disk of the checkpoints has no byte left."""
    with (group.folder / "state" / FILLER).open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


def _another_model(group: Group) -> None:
    """A newly trained model in the same place, and a restart."""
    group.end()
    save_model(group.folder.parent / group.model, scale=0.5)
    group.start()


def _warm(group: Group) -> None:
    group.more["state"] = {"on_model_change": "warm", "warm": "10m"}
    group.start()


def _with_shadow(path: str) -> Act:
    def restart(group: Group) -> None:
        group.end()
        group.more["shadow"] = {"path": str(group.folder.parent / path), "topic": f"{group.name}-shadow"}
        group.start()

    return restart


def storage(signal_number: int) -> Act:
    """Stops or continues the server of the bucket, whose process id is in a file."""

    def act(group: Group) -> None:
        subprocess.run(["kill", f"-{signal_number}", (group.folder / "storage.pid").read_text()], check=True)

    return act


def loads(**more: int) -> Act:
    """The producer sends something else."""

    def change(group: Group) -> None:
        group.load = Load(**more)

    return change


_limits: dict[str, threading.Event] = {}


def throttled(**more: int) -> Act:
    """A thirtieth of a processor, about, and this load."""

    def change(group: Group) -> None:
        _limits[group.name] = threading.Event()
        group.throttle(THROTTLED, _limits[group.name])
        group.load = Load(**more)

    return change


def _more_workers(group: Group) -> None:
    """A second worker, and the first one gets its processor back."""
    group.start(1)
    _limits[group.name].set()


FAULTS: Mapping[str, Fault] = {
    "broker": Fault(
        "the broker is killed; later it is started again",
        frozenset({"RnnwNotReady", "RnnwClientErrors"}), lambda group: group.broker.kill(), _restart,
    ),
    "bad": Fault(
        "5 of 55 records are no JSON; later none", frozenset({"RnnwRecordsRefused"}), loads(bad=5), loads(),
    ),
    "full": Fault(
        "the disk of the checkpoints is full; later there is room", frozenset({"RnnwCheckpointsFailing"}),
        _full, lambda group: (group.folder / "state" / FILLER).unlink(),
    ),
    "slow": Fault(
        "the bucket of the checkpoints does not answer; later it does", frozenset({"RnnwCheckpointsFailing"}),
        storage(signal.SIGSTOP), storage(signal.SIGCONT),
    ),
    "hot": Fault(
        "one stream sends 2,000 events/s to a worker with a thirtieth of a processor; later it sends none",
        frozenset({"RnnwHotPartition"}), throttled(hot=2_000), loads(),
    ),
    "lag": Fault(
        "2,000 events/s to a worker with a thirtieth of a processor; later two workers with all of it",
        frozenset({"RnnwLate"}), throttled(events=2_000), _more_workers,
    ),
    "model": Fault(
        "another model at the same path and a restart; later on_model_change: warm", frozenset({"RnnwDown"}),
        _another_model, _warm,
    ),
    "shadow": Fault(
        "a restart with a shadow whose file is none; later with one that is", frozenset({"RnnwShadowFails"}),
        _with_shadow("broken.keras"), _with_shadow("candidate.keras"),
    ),
}  # fmt: skip


def make_models(folder: Path) -> None:
    """All model files: the usual one, a copy for the group that gets another, one that is none."""
    save_model(folder / "model.keras")
    save_model(folder / "changing.keras")
    save_model(folder / "candidate.keras", scale=0.9)
    (folder / "broken.keras").write_bytes(b"no model")
