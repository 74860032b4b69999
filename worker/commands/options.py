"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.errors import ConfigError

if TYPE_CHECKING:
    from worker.config.sections import Config

config_option = click.option(
    "-c", "--config", "config_file", required=True, metavar="FILE", type=click.Path(path_type=Path),
    help="The configuration (YAML).",
)  # fmt: skip


def read_config(file: Path) -> Config:
    """The configuration; environment variables are filled in. Raises ConfigError.

    The processor's level is pinned here, because every command that reads the configuration loads TensorFlow next.
    """
    from worker.config import load_config
    from worker.processor import pin_cpu_level

    config = load_config(file, os.environ)
    with in_file(file):
        pin_cpu_level(config.model.cpu_level)
    return config


@contextmanager
def in_file(file: Path) -> Iterator[None]:
    """Errors of the configuration that are found only later name the file, too."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
