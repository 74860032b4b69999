"""Which keys each task has and needs: lines that begin with the key's path."""

from __future__ import annotations

from collections.abc import Iterator

from worker.config.model import EncoderDecoder, Model
from worker.config.sections import Config
from worker.config.values import attribute_of
from worker.records.reserved_words import KEY, NOT_VALUES, TIMESTAMP, VALUE

GENERATING = ("generate", "seq2seq")
TASKS_OF_KEYS = {
    "labels": ("score",),
    "window": ("score",),
    "window_fill": ("score",),
    "memory": ("score",),
    "every": ("score",),
    "expect": ("score",),
    "vocabulary": ("generate",),
    "source_vocabulary": ("seq2seq",),
    "target_vocabulary": ("seq2seq",),
    "start": ("seq2seq",),
    "stop": GENERATING,
    "max_length": GENERATING,
    "temperature": GENERATING,
    "top_k": GENERATING,
    "top_p": GENERATING,
    "seed": GENERATING,
    "beams": ("seq2seq",),
    "unknown": GENERATING,
}
OF_SCORES = ("emit_delta", "alert", "score")  # keys of the output
READ_BY_TASK = {"generate": ("text", "tokens", "length", "temperature"), "seq2seq": ("text", "tokens")}


def holds_vectors(config: Config) -> bool:
    """Whether records hold vectors, not text or tokens."""
    if config.model.task == "seq2seq":
        return config.input.features is not None or config.input.format == "float32"
    return config.model.task == "score"


def keys_of_other_tasks(config: Config) -> Iterator[str]:
    """Keys that the task does not have, that it needs, or that contradict each other in it."""
    for check in (_other_tasks, _emit, _required, _input, _drawing, _fields):
        yield from check(config)


def _other_tasks(config: Config) -> Iterator[str]:
    model = config.model
    for key, tasks in TASKS_OF_KEYS.items():
        field = Model.model_fields[key]
        default = field.get_default(call_default_factory=True, validated_data={"task": model.task})
        if model.task not in tasks and getattr(model, key) != default:
            yield f"model.{key}: is for task {' or '.join(tasks)}, but model.task is {model.task}"
    output = type(config.output)
    for key in OF_SCORES if model.task != "score" else ():
        name = attribute_of(output, key)
        if getattr(config.output, name) != output.model_fields[name].default:
            yield f"output.{key}: is for task score, but model.task is {model.task}"


def _emit(config: Config) -> Iterator[str]:
    emit, task, sequence = config.output.emit, config.model.task, config.sequence
    if emit == "every_item" and task == "score":
        yield "output.emit: every_item is for tasks that generate (for task score use every_event)"
    if emit in ("change", "alert") and task != "score":
        yield f"output.emit: {emit} compares probabilities; task {task} has none (use every_event)"
    if emit == "every_item" and task == "seq2seq" and config.model.beams > 1:
        yield "output.emit: every_item can't follow model.beams, which choose a text when all of them have ended"
    if emit == "sequence_end" and sequence.end is None and sequence.length is None:
        yield "output.emit: sequence_end needs sequence.end or sequence.length, or the end is never known"


def _required(config: Config) -> Iterator[str]:
    model, sequence = config.model, config.sequence
    if model.task == "generate" and model.vocabulary is None:
        yield "model.vocabulary: is required for task generate"
    if model.task == "seq2seq" and model.start is None:
        yield "model.start: is required for task seq2seq (the item or id that decoding begins with)"
    if model.task == "seq2seq" and sequence.end is None and sequence.length is None:
        yield "sequence.end: task seq2seq needs sequence.end or sequence.length to know when a source ends"
    if isinstance(model.path, EncoderDecoder) and model.task != "seq2seq":
        yield f"model.path: encoder and decoder are for task seq2seq, but model.task is {model.task}"
    if isinstance(model.path, EncoderDecoder) and model.sha256 is not None:
        yield "model.sha256: is of one file, and model.path names two (leave it out; outputs name the digest of both)"


def _input(config: Config) -> Iterator[str]:
    model = config.model
    if model.task == "generate" and config.input.features is not None:
        yield "input.features: is not for task generate, whose records hold text or tokens (leave it out)"
    if model.task != "seq2seq":
        return
    if holds_vectors(config) and model.source_vocabulary is not None:
        given = "input.features" if config.input.features is not None else "input.format float32"
        yield f"model.source_vocabulary: is for text, but records hold vectors ({given}); leave out one of the two"
    if model.unknown != "refuse" and model.source_vocabulary is None:
        yield "model.unknown: is for text, which needs model.source_vocabulary (leave it out)"


def _drawing(config: Config) -> Iterator[str]:
    model = config.model
    if model.task != "seq2seq":
        return
    if model.beams > 1 and model.temperature > 0:
        yield f"model.beams: {model.beams} candidates take the most likely items; model.temperature must be 0 for them"
    for key in ("top_k", "top_p") if model.temperature == 0 else ():
        if getattr(model, key) is not None:
            yield f"model.{key}: is for drawing, but model.temperature is 0, which takes the most likely item"


def _fields(config: Config) -> Iterator[str]:
    """A field that the task reads itself has no second meaning."""
    sequence, task = config.sequence, config.model.task
    own = () if holds_vectors(config) else READ_BY_TASK.get(task, ())
    stream, time = config.input.stream, config.input.time
    named = {
        "input.stream": None if stream == KEY or stream.startswith(NOT_VALUES) else stream,
        "input.time": None if time == TIMESTAMP else time,
        "sequence.id": sequence.id,
        "sequence.start": sequence.start,
        "sequence.end": sequence.end,
    }
    for key, name in named.items():
        if name is not None and name.removeprefix(VALUE) in own:
            yield f"{key}: '{name}' is what task {task} reads from a record; name another field"
