"""Which model a configuration names, without opening it: the SHA-256 that checkpoints and outputs know it by."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker.config.model import EncoderDecoder
from worker.config.sections import Config
from worker.errors import WorkerError
from worker.model.files.fetching import located
from worker.model.window.window import Window
from worker.records.model_url import ModelUrl, is_url
from worker.records.names import identity_of, joint_digest


def model_sha256(config: Config) -> str:
    """Of the model's file, or of both of a pair. Raises WorkerError where it can't be read, or is not the one named."""
    path, named = config.model.path, config.model.sha256
    if isinstance(path, EncoderDecoder):
        return joint_digest([_sha256(path.encoder, None), _sha256(path.decoder, None)])
    return _sha256(path, named)


def model_identity(config: Config) -> str:
    """What checkpoints belong to: the digest, and the form where it is not the streaming one. Raises as above."""
    given = config.model
    window = None if given.window is None else Window(given.window, given.window_fill, given.every)
    return identity_of(model_sha256(config), None if window is None else window.words)


def unpinned_urls(config: Config) -> list[str]:
    """The URLs of the model for which no SHA-256 is given."""
    path = config.model.path
    files = (path.encoder, path.decoder) if isinstance(path, EncoderDecoder) else (path,)
    if config.model.sha256 is not None:
        return []
    return [str(each) for each in files if is_url(each) and ModelUrl.parse(str(each)).sha256 is None]


def _sha256(path: Path | str, named: str | None) -> str:
    """A file that a URL pins is not fetched for it."""
    if is_url(path) and (pinned := named or ModelUrl.parse(str(path)).sha256) is not None:
        return pinned.strip().lower()
    file, wanted, shown = located(path, named)
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise WorkerError(f"model {shown}: can't be read ({error.strerror or error})") from error
    if wanted is not None and wanted.strip().lower() != found:
        raise WorkerError(f"model {shown}: its SHA-256 is {found}, model.sha256 says {wanted}", "it was not opened")
    return found
