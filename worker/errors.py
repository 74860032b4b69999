"""The errors, sorted by what the caller does about them.

Records that can't be used are values (``records.Refusal``), not errors. Everything not named here is a bug and
crashes loudly; a restart is always right.
"""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 step``, ``7 steps``, ``1,000 steps``: how messages count."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Text of others as a line of ours shows it: without line breaks, and with nothing that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class WorkerError(Exception):
    """Stop with exit status 1 and this one line: what, where, what to do.

    ``why`` and ``instead`` are its two halves, for programs that want the second by itself: those of ``worker check``.
    ``instead`` is empty where nothing helps, or where ``why`` says it already.
    """

    def __init__(self, why: str, instead: str = "") -> None:
        super().__init__(f"{why}; {instead}" if instead else why)
        self.why = why
        self.instead = instead


class ConfigError(WorkerError):
    """Wrong configuration or usage: exit status 2. The message names the key's path."""


class ModelRefusedError(WorkerError):
    """The model can't be streamed. ``layer`` and ``why`` say what is in the way, ``instead`` what to do."""

    def __init__(self, layer: str, why: str, instead: str) -> None:
        super().__init__(f"layer '{layer}': {why}" if layer else why, instead)
        self.layer = layer
        self.why = why


class StateShapeError(ValueError):
    """States of a wrong count or shape. ``layer`` is the place, ``wanted`` and ``given`` the two sides."""

    def __init__(self, layer: str, wanted: object, given: object) -> None:
        super().__init__(f"state of layer '{layer}': wanted {wanted}, given {given}")
        self.layer = layer
        self.wanted = wanted
        self.given = given


class CheckpointUnusableError(Exception):
    """This checkpoint file can't be used: skip it, name it in the log, take an older one."""


class UnavailableError(Exception):
    """Something outside does not answer now: nothing is known, nothing is lost; wait and try again."""


class KafkaUnavailableError(UnavailableError):
    """The cluster does not answer now: wait and try again."""


class KafkaRefusedError(KafkaUnavailableError):
    """The cluster does not let us in (login, certificate, protocol): somebody must mend it; try again, but slowly."""


class StoreUnavailableError(UnavailableError):
    """The store of checkpoints does not answer now, which is not the same as having none: wait and try again."""


class CommitRefusedError(Exception):
    """The group no longer accepts commits of this member: its partitions are lost or about to be."""


class DeliveryFailedError(WorkerError):
    """A message was not acknowledged: nothing after the last commit counts, and a restart goes on from there.

    ``topic``: the message's, where that is known.
    """

    def __init__(self, said: str, topic: str | None = None) -> None:
        super().__init__(said)
        self.topic = topic


class TopicRefusedError(WorkerError):
    """No message for this topic is taken: somebody must create it, or give this user the right to write to it."""


class MessageRefusedError(DeliveryFailedError):
    """The cluster takes this message from nobody: too large for its topic, or against one of its rules.

    ``too_large``: for its size. The record that it answers would be met again by whoever starts anew.
    """

    def __init__(self, said: str, too_large: bool, topic: str | None = None) -> None:
        super().__init__(said, topic)
        self.too_large = too_large


class OffsetOutOfRangeError(WorkerError):
    """The position is not in the log any more, ``partition`` says where; a restart goes on with what the log has."""

    def __init__(self, partition: object, detail: str) -> None:
        super().__init__(f"{partition}: {detail}")
        self.partition = partition


class ModelChangedError(CheckpointUnusableError):
    """The checkpoint is sound but of other weights. ``model_sha256`` says of which: ``on_model_change`` decides."""

    def __init__(self, message: str, model_sha256: str) -> None:
        super().__init__(message)
        self.model_sha256 = model_sha256


class InputChangedError(CheckpointUnusableError):
    """The checkpoint is sound, but its states were fed with another input. ``input`` says with which, as JSON."""

    def __init__(self, message: str, input: str) -> None:
        super().__init__(message)
        self.input = input
