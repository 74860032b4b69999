"""From a configuration to the parts of a worker. What the model says about the input is checked here."""

from __future__ import annotations

import os
import secrets
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import SecretStr

from worker import __version__
from worker.assembly.feature_order import FeatureFields, in_order
from worker.assembly.input_fields import check_fields, input_fields
from worker.codecs.commands import StateLayout
from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import open_decoder
from worker.codecs.encoding import Encoder
from worker.codecs.fields import KEY
from worker.config import Config
from worker.config.kafka import Security
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.errors import ConfigError, WorkerError, counted
from worker.kafka.connection_options import contradicting_security
from worker.kafka.message_sizes import LEAST_FRAMING_BYTES, NO_RULES, TopicRules, message_bytes_limit
from worker.kafka.opening import ClientSettings, refused_clients
from worker.kafka.options import contradicting_options, refused_options, why_refused
from worker.kafka.settings import SECTIONS, transactional_id
from worker.model.streaming import StreamingModel
from worker.pipeline.pipeline import Pipeline
from worker.streams.table import StreamTable

MODEL_ID_DIGITS = 12  # of the file's SHA-256, in every output
RANDOM_ID_BYTES = 8
TRACEBACK_VARIABLE = "WORKER_TRACEBACK"


def load_model(config: Config) -> StreamingModel:
    """The model in streaming form, fitting to the input. Raises WorkerError, ModelRefusedError, ConfigError."""
    assert isinstance(config.model.path, Path), "two files are for task seq2seq"
    check_fields(config)
    modules = import_modules(config.model.imports)
    with foreseen("converted", config):
        model = StreamingModel.load(
            config.model.path, config.model.sha256, allow_lambda=config.model.allow_lambda, custom_objects=modules
        )
    feature_fields(config, model)
    labels = config.model.labels
    if labels is not None and len(labels) != model.units:
        raise ConfigError(
            f"model.labels: {counted(len(labels), 'name')} for {counted(model.units, 'output')} of {config.model.path}"
        )
    return model


def feature_fields(config: Config, model: StreamingModel) -> FeatureFields:
    """The fields in the order of the model's inputs. Raises ConfigError for others than these take."""
    if config.input.features is None:
        return FeatureFields(())  # of raw vectors, which have no fields
    widths = {part.name: part.width for part in model.inputs}
    return in_order(config.input.features, widths, str(config.model.path))


def import_modules(names: Sequence[str]) -> list[ModuleType]:
    """Import the modules that define a model's own classes. Raises ConfigError for one that can't be imported.

    They are looked for among the installed packages first, then in the current directory, where the configuration's
    relative paths begin too: a file there never takes the place of a package that the worker needs.
    """
    folder = str(Path.cwd())
    if names and folder not in sys.path:
        sys.path.append(folder)
    modules = []
    for number, name in enumerate(names):
        key = f"model.imports.{number}"
        try:
            with redirect_stdout(sys.stderr):  # standard output is for what the command answers
                modules.append(import_module(name))
        except ModuleNotFoundError as error:
            missing = error.name or name
            if name == missing or name.startswith(f"{missing}."):
                raise ConfigError(f"{key}: no module '{missing}' is installed, nor is it in {folder}") from error
            raise ConfigError(f"{key}: '{name}' needs the module '{missing}', which is not installed") from error
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{key}: '{name}' can't be imported: {describe(error)}") from error
    return modules


@contextmanager
def foreseen(doing: str, config: Config) -> Iterator[None]:
    """Whatever goes wrong with a model beyond what was foreseen becomes one line too: it is the user's model.

    Raises WorkerError, or with WORKER_TRACEBACK in the environment the error as it is, for whoever looks for the bug.
    """
    try:
        yield
    except WorkerError:
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        raise WorkerError(
            f"model {config.model.path}: it can't be {doing}, by an error that the worker did not expect: "
            f"{describe(error)}; please report it, with the traceback that {TRACEBACK_VARIABLE}=1 shows"
        ) from error


def describe(error: BaseException) -> str:
    """An error in one line: its kind, the first line of its message, and where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__ + (f": {lines[0].rstrip('.')}" if lines else "")
    frames = traceback.extract_tb(error.__traceback__)
    return f"{kind} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else kind


def build_pipeline(config: Config, model: StreamingModel) -> Pipeline:
    """Decoder, engine and encoder for this configuration and model."""
    sequence, state = config.sequence, config.state
    fields = input_fields(config, feature_fields(config, model), model.features, model.ids)
    idle_ms = state.idle.ms if state.idle else None
    rules = BoundaryRules(
        length=sequence.length,
        gap_ms=sequence.gap.ms if sequence.gap else None,
        idle_ms=idle_ms,
        late=sequence.late,
    )
    change = config.output.emit == "change"
    table = StreamTable(model.initial_row, state.max_streams, model.units if change else 0, idle_ms)
    emit = config.output.emit
    assert emit != "every_item" and emit != "alert", "refused by the configuration"  # noqa: PT018 (the type is narrowed)
    model_id = (model.sha256 or "")[:MODEL_ID_DIGITS]
    return Pipeline(
        decoder=open_decoder(config.input.format, fields, _layout(model)),
        engine=Engine(model, table, rules, EmitRule(emit, config.output.emit_delta)),
        encoder=Encoder(
            config.output.format,
            model_id,
            config.model.labels,
            stream_is_key=config.input.stream == KEY,
        ),
        slices=model.slices,
        dead_letters=DeadLetters(config.kafka.group_id, model_id, __version__),
    )


def fit_messages(
    pipeline: Pipeline, settings: ClientSettings, output: TopicRules = NO_RULES, dead: TopicRules = NO_RULES
) -> None:
    """Make it write only what the producer takes, and what the topics of outputs and of dead letters take."""
    # No output that would be taken is held back: one that is larger by a few bytes is refused by the cluster.
    pipeline.output_bytes = message_bytes_limit(settings.client, settings.producer, output, LEAST_FRAMING_BYTES)
    letter_bytes = message_bytes_limit(settings.client, settings.producer, dead)
    pipeline.dead_letters.fit(letter_bytes, keys_needed=dead.compacted)


def _layout(model: StreamingModel) -> StateLayout:
    dtypes = {(state.layer, state.name): np.dtype(state.dtype) for state in model.states}
    return StateLayout(model.slices, model.initial_row, dtypes)


def client_settings(config: Config) -> ClientSettings:
    """How to reach Kafka. Raises ConfigError for client options that the worker must control itself."""
    kafka, security = config.kafka, _plain(config.kafka.security)
    problems: list[str] = []
    for section in SECTIONS:
        options = getattr(kafka, section)
        refused = refused_options(kafka.client, section, options)
        problems += [f"kafka.{section}.{name}: {why_refused(name)}" for name in refused]
        problems += contradicting_security(section, options, security)
    problems += contradicting_options(kafka.client, config.delivery, kafka.producer)
    if problems:
        raise ConfigError("\n".join(problems))
    # Without a name of its own the id is new each time, and Kafka ends its transaction after the time-out. With one, a
    # worker that starts again ends at once what its last life has left open.
    member = kafka.instance_id or secrets.token_hex(RANDOM_ID_BYTES)
    return ClientSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        client=kafka.client,
        group_id=kafka.group_id,
        instance_id=kafka.instance_id,
        security=security,
        consumer=kafka.consumer,
        producer=kafka.producer,
        transactional_id=transactional_id(kafka.group_id, member) if config.delivery == "exactly_once" else None,
        written={config.dead_letters.topic or "": "dead_letters.topic", config.output.topic: "output.topic"},
    )


def check_clients(settings: ClientSettings) -> None:
    """Build the clients as far as that needs no broker. Raises ConfigError with a line for each option refused."""
    if problems := refused_clients(settings):
        raise ConfigError("\n".join(problems))


def _plain(security: Security) -> dict[str, Any]:
    """The given keys of ``kafka.security``, secrets in the clear: only the client sees the result."""
    values: dict[str, Any] = {"protocol": security.protocol}
    for name in security.model_fields_set - {"protocol"}:
        value = getattr(security, name)
        if value is not None and not name.endswith(("name_file", "password_file")):
            values[name] = value.get_secret_value() if isinstance(value, SecretStr) else value
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
