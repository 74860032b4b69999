"""What an operator should know before running a model: the configuration compared with the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from worker.assembly.input_fields import conditions
from worker.assembly.input_fields import warnings as named_otherwise
from worker.assembly.model_inputs import InputReport
from worker.config.sections import Config
from worker.errors import counted
from worker.model.facts import TrainedFacts
from worker.model.ports import OutputPart

# Seen with LSTM 256 → GRU 128: 4e-3 between batches of different sizes where outputs are about 10, less below.
HALF_PRECISION_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class Advice:
    """``warnings`` ask for a decision, ``notes`` only tell."""

    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Room:
    """What ``state.max_streams`` streams take, and what there is; ``free_bytes`` None where it can't be known."""

    capacity_bytes: int
    free_bytes: int | None
    streams_that_fit: int | None


def advice(
    config: Config,
    trained: TrainedFacts,
    room: Room,
    inputs: Sequence[InputReport] = (),
    exact_steps: int | None = None,
) -> Advice:
    """All there is to say about a model that streams."""
    warnings = [*_window(config, trained), *_looked_back(config, exact_steps), *_skipped(trained)]
    warnings += [*_precision(config, trained), *_code(trained)]
    notes = [*_boundaries(config, trained), *_indifferent(trained), *_transactions(config), *conditions(config)]
    return Advice([*_order(config, inputs), *warnings, *named_otherwise(config), *_memory(config, room)], notes)


def _order(config: Config, inputs: Sequence[InputReport]) -> Iterator[str]:
    if len(inputs) > 1 and isinstance(config.input.features, tuple):
        fields = ", ".join(f"{each.name}: [{', '.join(each.fields)}]" for each in inputs)
        yield (
            f"the model has {len(inputs)} inputs, but input.features is one list for all of them, so nobody would "
            f"notice if two were swapped; name the fields by input, if this is what you mean: features: {{{fields}}}"
        )


def _has_boundary(config: Config) -> bool:
    sequence = config.sequence
    boundaries = (sequence.id, sequence.start, sequence.end, sequence.length, sequence.gap)
    return any(boundary is not None for boundary in boundaries)


def _window(config: Config, trained: TrainedFacts) -> Iterator[str]:
    window, length = trained.window, config.sequence.length
    if (
        config.model.task != "score" or config.model.window is not None
    ):  # texts go on beyond it, which is what the state is carried for
        return
    if window is None or trained.stateful:  # a stateful model has seen its windows follow each other
        return
    windows = f"trained on windows of {counted(window, 'step')}"
    if not _has_boundary(config):
        yield (
            f"{windows}, and no boundary is configured (section sequence): from event {window + 1:,} of a stream on, "
            f"its state has seen more than it ever did in training; set sequence.length: {window} or another "
            "boundary, or leave it if that is what you want"
        )
    elif length is not None and length > window:
        events = f"event {length:,}" if length == window + 1 else f"events {window + 1:,} to {length:,}"
        yield (
            f"{windows}, but sequence.length is {length:,}: the state of {events} has seen more than it ever did in "
            "training"
        )
    elif length is not None and length < window:
        yield (
            f"{windows}, but sequence.length is {length:,}: the state returns to zero "
            "before the model has seen as much as in training"
        )


def _looked_back(config: Config, steps: int | None) -> Iterator[str]:
    length = config.sequence.length
    if steps is not None and (length is None or length > steps):
        yield (
            f"attention looks back over {counted(steps, 'step')} (model.memory): from event {steps + 1:,} of a "
            "sequence on, it no longer sees the first, and answers are not those of the trained model to the whole "
            f"sequence; set sequence.length: {steps} or less, raise model.memory, or leave it if that is what you want"
        )


def _skipped(trained: TrainedFacts) -> Iterator[str]:
    for layer in trained.skipped:
        if layer.value is None:
            what = f"layer '{layer.layer}' (Embedding with mask_zero=True) skips every event of id 0"
            means = "right for padding, but if 0 is one of your items, the model never sees it"
        else:
            numbers = f"all {layer.value:g}" if isinstance(layer.value, float) else f"{layer.value}"
            what = f"layer '{layer.layer}' (Masking) skips every event whose numbers are {numbers}"
            means = "right for padding, but a device that really measures this is ignored"
        yield f"{what}: the states after it stay unchanged; {means}"


def _precision(config: Config, trained: TrainedFacts) -> Iterator[str]:
    tolerance, enough = config.model.parity_tolerance, HALF_PRECISION_TOLERANCE
    if trained.half and tolerance < enough:
        yield (
            f"{_layers(trained.half)} computed in half precision: its rounding may differ by about 2e-3 between "
            f"batches of different sizes and between machines; set model.parity_tolerance: {enough:g} (it is "
            f"{tolerance:g}), or a start may be refused"
        )


def _code(trained: TrainedFacts) -> Iterator[str]:
    for layer in trained.code:
        yield (
            f"layer '{layer}' (Lambda) is Python code inside the model file, run because of model.allow_lambda: the "
            "worker can't tell what it does with time, so only the proof vouches for it"
        )


def _memory(config: Config, room: Room) -> Iterator[str]:
    if room.free_bytes is not None and room.capacity_bytes > room.free_bytes:
        yield (
            f"state.max_streams: {config.state.max_streams:,} streams of a partition need {size(room.capacity_bytes)}, "
            f"but {size(room.free_bytes)} are free here; set it to {room.streams_that_fit:,} or less, or give the "
            "worker more memory"
        )


def _boundaries(config: Config, trained: TrainedFacts) -> Iterator[str]:
    if not _has_boundary(config) and (trained.window is None or trained.stateful):
        yield "no boundary is configured (section sequence): a stream's state never returns to zero by itself"


def _indifferent(trained: TrainedFacts) -> Iterator[str]:
    if trained.batch is not None:
        yield f"trained in batches of {trained.batch:,}: that doesn't matter here, any number of streams makes a batch"
    if trained.stateful:
        yield f"{_layers(trained.stateful)} with stateful=True: that doesn't matter here, each stream has its own state"


def _transactions(config: Config) -> Iterator[str]:
    if config.delivery == "exactly_once" and config.kafka.instance_id is None:
        yield (
            "delivery: exactly_once without kafka.instance_id: after a crash the worker that takes over waits up to 10 "
            "s until Kafka ends the open transaction; with it (e.g. ${HOSTNAME}) the restarted worker ends it at once"
        )


def told_guesses(outputs: Sequence[OutputPart]) -> Iterator[str]:
    """Which outputs of a model on a window were taken as one answer per event without certainty."""
    for output in outputs:
        if output.guessed:
            yield (
                f"output '{output.name}' has as many steps as the window: it was taken as one answer per event, and "
                "the last is given; that is guessed, because the model's code can't be followed"
            )


def _layers(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3]) + (", …" if len(names) > 3 else "")
    return f"layer{'s' if len(names) > 1 else ''} {shown}"


def size(count: int) -> str:
    """Bytes as people read them, with three digits: 1.5 GiB."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    digits = 0 if amount >= 100 else 1 if amount >= 10 else 2
    text = f"{amount:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if digits else text} {unit}"
