"""From a configuration to a model in streaming form, proven. What the model says about the input is checked here."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType

from worker.assembly.feature_order import FeatureFields, in_order
from worker.assembly.input_fields import check_fields
from worker.assembly.lengths import check_first_answer, check_length
from worker.assembly.model_digest import unpinned_urls
from worker.assembly.text_model import TextModel, load_text_model, model_name
from worker.config.model import EncoderDecoder
from worker.config.sections import Config
from worker.errors import ConfigError, WorkerError, counted
from worker.model.streaming import StreamingModel
from worker.records.model_url import shown
from worker.records.names import short_digest
from worker.web.metrics import Metrics
from worker.web.status import WorkerStatus

log = logging.getLogger("worker")

UNPINNED = (
    "model.path: %s names no SHA-256, so another file there becomes another model at the next start; write it behind "
    "the URL (#SHA256) or into model.sha256"
)
TRACEBACK_VARIABLE = "WORKER_TRACEBACK"
ROWS_DEPEND = (
    "on this processor a stream's probabilities depend, by rounding, on which other streams are in its batch: outputs "
    "that are repeated after a crash may differ in their last digits"
)


def prove_model(
    config: Config, status: WorkerStatus | None = None, metrics: Metrics | None = None
) -> StreamingModel | TextModel:
    """Load the model, prove parity, build its graphs. Raises WorkerError, ModelRefusedError."""
    begun_s = time.monotonic()
    if status is not None:
        status.set("model", "loading")
    model = load_model(config)
    loaded_s = time.monotonic()
    with unforeseen_as_one_line("proven", config):
        found = model.check_parity(config.model.parity_tolerance).max_abs_difference
    if metrics is not None:
        metrics.set_model(loaded_s - begun_s, time.monotonic() - loaded_s, found)
    if not model.warm_up(config.batch.max_events):
        log.warning(ROWS_DEPEND)
    log.info(
        "model %s (%s): %d states, %d bytes a stream, %s on every prefix",
        model_name(config), short_digest(model.sha256), len(model.states), model.layout.initial.nbytes,
        f"at most {found:.2g} from the trained model" if found else "bit for bit the trained model's answer",
    )  # fmt: skip
    if status is not None:
        status.set("model", None)
    return model


def load_model(config: Config) -> StreamingModel | TextModel:
    """The model of the configuration's task, fitting to the input.

    Raises WorkerError, ModelRefusedError, ConfigError.
    """
    for each in unpinned_urls(config):
        log.warning(UNPINNED, shown(each))
    if config.model.task == "score":
        return load_scoring(config)
    modules = import_modules(config.model.imports)
    with unforeseen_as_one_line("converted", config):
        return load_text_model(config, modules)


def load_scoring(config: Config) -> StreamingModel:
    """The model in streaming form, fitting to the input. Raises WorkerError, ModelRefusedError, ConfigError."""
    assert not isinstance(config.model.path, EncoderDecoder), "two files are for task seq2seq"
    check_fields(config)
    modules = import_modules(config.model.imports)
    with unforeseen_as_one_line("converted", config):
        model = StreamingModel.load(
            config.model.path, config.model.sha256, allow_lambda=config.model.allow_lambda, custom_objects=modules,
            window=config.model.window, window_fill=config.model.window_fill, every=config.model.every,
            memory=config.model.memory,
        )  # fmt: skip
    check_length(config, model.last_step)
    check_first_answer(config, model.first_answer)
    feature_fields(config, model)
    labels = config.model.labels
    if labels is not None and len(labels) != model.units:
        raise ConfigError(
            f"model.labels: {counted(len(labels), 'name')} for {counted(model.units, 'output')} of {model_name(config)}"
        )
    return model


def feature_fields(config: Config, model: StreamingModel) -> FeatureFields:
    """The fields in the order of the model's inputs. Raises ConfigError for fields that these don't take."""
    if config.input.features is None:
        return FeatureFields(())  # of raw vectors, which have no fields
    widths = {port.name: port.width for port in model.inputs}
    return in_order(config.input.features, widths, model_name(config))


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
            with redirect_stdout(sys.stderr):  # standard output is for the command's own result
                modules.append(import_module(name))
        except ModuleNotFoundError as error:
            missing = error.name or name
            if name == missing or name.startswith(f"{missing}."):
                raise ConfigError(f"{key}: module '{missing}' is neither installed nor in {folder}") from error
            raise ConfigError(f"{key}: '{name}' needs the module '{missing}', which is not installed") from error
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{key}: '{name}' can't be imported: {describe(error)}") from error
    return modules


@contextmanager
def unforeseen_as_one_line(doing: str, config: Config) -> Iterator[None]:
    """An unforeseen error with a model becomes one line, too: it is the user's model.

    Raises WorkerError, or with WORKER_TRACEBACK in the environment the original error, for whoever looks for the bug.
    """
    try:
        yield
    except WorkerError:
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        raise WorkerError(
            f"model {model_name(config)}: it can't be {doing}, because of an unexpected error: {describe(error)}",
            f"report it with the traceback that {TRACEBACK_VARIABLE}=1 shows",
        ) from error


def describe(error: BaseException) -> str:
    """An error in one line: its kind, the first line of its message, and where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__ + (f": {lines[0].rstrip('.')}" if lines else "")
    frames = traceback.extract_tb(error.__traceback__)
    return f"{kind} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else kind
