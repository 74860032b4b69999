"""Whether the files that ``kafka.security`` names can be read and fit together, before any broker is asked."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILES = ("ca_file", "cert_file", "key_file")


def wrong_files(security: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the files, a line each that begins with the key's path."""
    given = {key: security[key] for key in FILES if security.get(key) is not None}
    unreadable = [line for key, file in given.items() if (line := _unreadable(f"kafka.security.{key}", file))]
    yield from unreadable
    if unreadable:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if "ca_file" in given:
        try:
            context.load_verify_locations(given["ca_file"])
        except ssl.SSLError:
            yield f"kafka.security.ca_file: '{given['ca_file']}' holds no certificate in PEM form"
    if "cert_file" in given:
        yield from _wrong_pair(context, given, security.get("key_password"))


def _unreadable(where: str, file: str) -> str | None:
    try:
        with Path(file).open("rb"):
            return None
    except (OSError, ValueError) as error:
        return f"{where}: can't read '{file}': {getattr(error, 'strerror', None) or error}"


def _wrong_pair(context: ssl.SSLContext, given: Mapping[str, str], password: str | None) -> Iterator[str]:
    asked = False

    def answer() -> str:  # without this, OpenSSL would ask at the terminal
        nonlocal asked
        asked = True
        return password or ""

    certificate, key = given["cert_file"], given.get("key_file")
    key_where = f"kafka.security.{'cert_file' if key is None else 'key_file'}"
    try:
        context.load_cert_chain(certificate, key, answer)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield f"{key_where}: the key in '{key or certificate}' does not belong to the certificate in cert_file"
        elif asked and password is None:
            yield f"kafka.security.key_password: is required, the key in '{key or certificate}' is encrypted"
        elif asked:
            yield f"kafka.security.key_password: does not open the key in '{key or certificate}'"
        elif not _is_certificate(certificate):
            yield f"kafka.security.cert_file: '{certificate}' holds no certificate in PEM form"
        else:
            yield f"{key_where}: '{key or certificate}' holds no private key in PEM form"


def _is_certificate(file: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return False
    return True
