"""The errors, sorted by what the caller does about them.

Records that can't be used are values (``records.Refusal``), not errors. Everything not listed here is a bug and crashes
loudly; a restart is always right.
"""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 step``, ``7 steps``, ``1,000 steps``: how messages count."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Foreign text as our log lines show it: without line breaks and terminal control characters."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class WorkerError(Exception):
    """Stop with exit status 1 and this one line: what, where, what to do.

    ``why`` and ``instead`` are its two halves, for programs that want the second alone, such as readers of ``worker
    check --json``. ``instead`` is empty where nothing helps, or where ``why`` already says it.
    """

    def __init__(self, why: str, instead: str = "") -> None:
        super().__init__(f"{why}; {instead}" if instead else why)
        self.why = why
        self.instead = instead


class ConfigError(WorkerError):
    """Wrong configuration or usage: exit status 2. The message names the key's path."""


class ModelRefusedError(WorkerError):
    """The model can't be streamed. ``layer`` and ``why`` say what is in the way, ``instead`` what to do.

    ``instead`` is ``first`` and then ``second``: the way that is left without any change of the model, "" for none.
    """

    def __init__(self, layer: str, why: str, instead: str, second: str = "") -> None:
        super().__init__(f"layer '{layer}': {why}" if layer else why, f"{instead}, {second}" if second else instead)
        self.layer = layer
        self.why = why
        self.second = second
        self.first = instead

    def with_second(self, second: str) -> ModelRefusedError:
        """The same with another second way: none for a task that has no window."""
        return ModelRefusedError(self.layer, self.why, self.first, second)


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
    """The cluster refuses our connection (login, certificate, protocol): somebody must fix it; try again slowly."""


class StoreUnavailableError(UnavailableError):
    """The store of checkpoints does not answer now, which is not the same as having none: wait and try again."""


class CommitRefusedError(Exception):
    """The group no longer accepts commits of this member: its partitions are lost or about to be."""


class DeliveryFailedError(WorkerError):
    """A message was not acknowledged: nothing after the last commit counts, and a restart continues from there.

    ``topic``: the message's, where that is known.
    """

    def __init__(self, said: str, topic: str | None = None) -> None:
        super().__init__(said)
        self.topic = topic


class NotAcknowledgedError(DeliveryFailedError):
    """No answer to a message for so long that it was given up. A new producer writes it again, once there is one."""


class TopicRefusedError(WorkerError):
    """No message for this topic is taken: somebody must create it, or give this user the right to write to it."""


class MessageRefusedError(DeliveryFailedError):
    """The cluster takes this message from nobody: it is too large for its topic, or breaks one of its rules.

    ``too_large``: for its size. A restart would meet the same record again.
    """

    def __init__(self, said: str, too_large: bool, topic: str | None = None) -> None:
        super().__init__(said, topic)
        self.too_large = too_large


class OffsetOutOfRangeError(WorkerError):
    """The position is not in the log any more, ``partition`` says where; a restart continues with what the log has."""

    def __init__(self, partition: object, detail: str) -> None:
        super().__init__(f"{partition}: {detail}")
        self.partition = partition


class ModelChangedError(CheckpointUnusableError):
    """The checkpoint is sound but of other weights. ``model_sha256`` says of which; ``on_model_change`` decides."""

    def __init__(self, message: str, model_sha256: str) -> None:
        super().__init__(message)
        self.model_sha256 = model_sha256


class InputChangedError(CheckpointUnusableError):
    """The checkpoint is sound, but its states were fed with another input. ``input`` says with which, as JSON."""

    def __init__(self, message: str, input: str) -> None:
        super().__init__(message)
        self.input = input
