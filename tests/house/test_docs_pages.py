"""The pages that answer a question do what they show: read from top to bottom, every block is run.

``python``: runs, all of a page in one namespace. ``json`` and ``text``: what the Python block before it has printed.
``yaml``: the file that its first line names. ``console``: commands after ``$``, what they print below; ``worker run``
stays in the background until ``^C``. Numbers that differ from run to run are compared by their kind, and a line
``...`` stands for any lines.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from kafka import KafkaConsumer, KafkaProducer

from tests.forked import WorkerProcess
from tests.running import WAIT_S, worker
from worker.config import key_paths
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port
from worker.web.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGES = [
    "probability-after-every-sample", "setting-states", "outputs-and-states", "generating-text", "encoder-decoder",
    "checkpoints", "records", "watching-the-model", "which-form",
]  # fmt: skip
PAGE_TIMEOUT_S = 900
LONGEST_PAGE_LINES = 350
DEFAULT_GROUP = "rnn-stream-worker"
SHOWN_SERVERS, SHOWN_HTTP = "localhost:9092", "localhost:9100"

# What differs from run to run and from machine to machine. A line that not every machine has is left out.
VARYING = [
    (r"^memory +\S+ \w+ are free here.*\n|^ +worst: .*\n", ""),
    (r"\(within 1e-06, as Keras repeats itself; ", "("),  # by the processor's roundings
    (r"[\d.,]+ ms +[\d,]+ events/s", "<speed>"),
    (r"[\d,]+ events/s", "<speed>"),
    (r"bit for bit the same|\S+ at most$", "<difference>"),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<sha-256>"),
    (r"\b\d{13}\b", "<time>"),
    (r"-?\b\d+(\.\d+)?e-?\d+\b|-?\b\d+\.\d*", "<number>"),
    (r" +", " "),
]


def blocks(page: str) -> Iterator[tuple[str, str, int]]:
    """(language, text, line of the page) of every fenced block, in order."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield found[1], found[2], text.count("\n", 0, found.start(2))


def pattern(text: str) -> list[str]:
    for varying, name in VARYING:
        text = re.sub(varying, name, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.splitlines()]


def matches(shown: list[str], real: list[str]) -> bool:
    """Whether the lines are the same; ``...`` among the shown ones stands for any number of lines."""
    if not shown or shown[0] != "...":
        return not (shown or real) or bool(shown and real and shown[0] == real[0] and matches(shown[1:], real[1:]))
    return any(matches(shown[1:], real[start:]) for start in range(len(real) + 1))


def json_values(text: str) -> list[Any]:
    """All JSON values of a text, one after another; what differs from run to run by its kind."""
    values, decoder, text = [], json.JSONDecoder(parse_float=lambda _: "<number>"), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(kinds(value))
        text = text[end:].lstrip()
    return values


def kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "<time>" if name == "time" else kinds(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [kinds(inner) for inner in value]
    return pattern(value) if isinstance(value, str) else value


class Typist:
    """Reads a page as its readers do. Topics, group and ports are replaced by some that no other test has."""

    def __init__(self, page: str, folder: Path, broker: EmbeddedKafka) -> None:
        self.page, self.folder, self.broker = page, folder, broker
        self.names: dict[str, Any] = {}
        self.printed = ""
        self.workers = ExitStack()
        self.running: WorkerProcess | None = None
        self.prefix, self.port = f"{page}-", free_port()
        whole = "".join(text for _, text, _ in blocks(page))
        names = re.findall(r"--topic (\S+?):\d+", whole) + re.findall(r"group_id: ([\w.-]+)", whole)
        self._shared = re.compile("|".join(rf"(?<![\w.-]){re.escape(name)}\b" for name in names) or "(?!)")

    def read(self) -> None:
        with self.workers:
            for language, text, line in blocks(self.page):
                getattr(self, f"_{language or 'unnamed'}")(self._of_this_run(text), f"docs/{self.page}.md:{line}")
            assert not self.printed, "the last block prints something that is not shown"
            self._interrupt()

    def close(self) -> None:
        """Close the page's Kafka clients, whatever it calls them."""
        for value in self.names.values():
            if isinstance(value, KafkaConsumer | KafkaProducer):
                value.close()

    def _of_this_run(self, text: str) -> str:
        text = self._shared.sub(lambda found: self.prefix + found[0], text)
        text = text.replace(f"state/{DEFAULT_GROUP}/", f"state/{self.prefix}{DEFAULT_GROUP}/")
        return text.replace(SHOWN_SERVERS, self.broker.bootstrap_servers).replace(SHOWN_HTTP, f"127.0.0.1:{self.port}")

    def _python(self, text: str, place: str) -> None:
        assert not self.printed, f"before {place}: a block prints something that is not shown"
        file, _, line = place.partition(":")
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * int(line) + text, str(ROOT / file), "exec"), self.names)
        self.printed = printed.getvalue()

    def _text(self, text: str, place: str) -> None:
        self._compare(text, self.printed, place)
        self.printed = ""

    def _json(self, text: str, place: str) -> None:
        shown, real = (json_values(each.replace(self.prefix, "")) for each in (text, self.printed))
        assert shown == real, place
        self.printed = ""

    def _yaml(self, text: str, place: str) -> None:
        named = re.match(r"# (\S+\.yaml)\n", text)
        assert named, f"{place}: say the file's name in the first line"
        settings = yaml.safe_load(text)
        kafka = settings.setdefault("kafka", {})
        kafka["bootstrap_servers"] = self.broker.bootstrap_servers
        kafka.setdefault("group_id", f"{self.prefix}{DEFAULT_GROUP}")
        settings["http"] = {"host": "127.0.0.1", "port": self.port}
        (self.folder / named[1]).write_text(yaml.safe_dump(settings))

    def _console(self, text: str, place: str) -> None:
        for part in re.split(r"^(?=\$ |\^C$)", text, flags=re.MULTILINE):
            command, _, shown = part.partition("\n")
            if command == "^C":
                self._interrupt()
            elif command:
                assert command.startswith("$ "), f"{place}: a command begins with $"
                self._type(command.removeprefix("$ "), shown, place)

    def _type(self, command: str, shown: str, place: str) -> None:
        words = shlex.split(command)
        variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z]+=", word))
        words = words[len(variables) :]
        assert words[0] == "worker", f"{place}: {command}"
        if words[1] == "run":
            assert not self.running, f"{place}: the worker runs already"
            file = words[words.index("-c") + 1]
            self.running = self.workers.enter_context(worker(self.folder, f"worker-{place.rpartition(':')[2]}", file))
        elif words[1:3] == ["kafka", "up"]:
            for name, partitions in re.findall(r"--topic (\S+?):(\d+)", command):
                self.broker.create_topic(name, int(partitions))
        else:
            self._compare(shown, run_here(words, variables), place)

    def _interrupt(self) -> None:
        if self.running:
            self.running.send_signal(signal.SIGINT)
            assert self.running.wait(WAIT_S) == 0
            self.running = None

    def _compare(self, shown: str, real: str, place: str) -> None:
        shown, real = (text.replace(self.prefix, "") for text in (shown, real))
        wanted, given = pattern(shown), pattern(real)
        assert matches(wanted, given), f"{place} shows\n{shown}\nbut this comes\n{real}"


def run_here(words: list[str], variables: dict[str, str]) -> str:
    """What a command prints, run in this process: without starting Python and TensorFlow each time."""
    from worker.__main__ import main

    errors = io.StringIO()
    with (
        patch.dict(os.environ, variables),
        patch.object(sys, "argv", words),
        patch.object(sys, "stderr", errors),
        redirect_stdout(io.StringIO()) as printed,
        pytest.raises(SystemExit),
    ):
        main()
    assert "Traceback" not in errors.getvalue()
    # On a terminal `worker check` has said it all in its report.
    return printed.getvalue() + ("" if words[1] == "check" else errors.getvalue())


@pytest.fixture
def too_long() -> Iterator[None]:
    """A page that waits for a record that never comes must fail, not hang."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError(f"the page has not ended within {PAGE_TIMEOUT_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PAGE_TIMEOUT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("too_long")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_kafka: EmbeddedKafka
) -> None:
    from worker.model.backend import keras

    keras.utils.clear_session()  # layers are numbered as in a new process
    monkeypatch.chdir(tmp_path)
    typist = Typist(page, tmp_path, embedded_kafka)
    try:
        typist.read()
    finally:
        typist.close()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_is_named_in_the_readme(page: str) -> None:
    assert (ROOT / "docs" / f"{page}.md").read_text().count("\n") <= LONGEST_PAGE_LINES
    assert f"(docs/{page}.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("step 7: 0.93\n", "step 7: 0.12\n", True),
        ("step 7: 0.93\n", "step 8: 0.93\n", False),
        ("layers\n...\nok\n", "layers\n  lstm\n  dense\nok\n", True),
        ("layers\n...\nok\n", "layers\n  lstm\nnot ok\n", False),
        ("ok\n", "ok\nnote  more\n", False),
        ("proof\n  alone  bit for bit the same\n", "proof\n  alone  1e-07 at most\n  worst: step 2\n", True),
        ("  256  0.35 ms  720,000 events/s\n", "  256  10.85 ms  23,000 events/s\n", True),
        ("memory  2 GiB are free here: room\nok\n", "ok\n", True),
        ("sha-256 " + "0f" * 32, "sha-256 " + "a9" * 32, True),
    ],
)
def test_what_is_shown_is_compared_with_what_comes(shown: str, real: str, same: bool) -> None:
    assert matches(pattern(shown), pattern(real)) == same


def test_records_are_compared_by_their_fields() -> None:
    shown, real = '{"step": 1, "time": 1,\n "p": [0.5]}', '{"step": 1, "time": 2, "p": [0.25]}'
    assert json_values(shown) == json_values(real)
    assert json_values(shown) != json_values(real.replace('"step": 1', '"step": 2'))
    assert json_values(shown) != json_values(real.replace("0.25", "0.25, 0.5"))


def test_pages_name_keys_and_metrics_that_there_are() -> None:
    """``section.key`` of the configuration, and ``rnnw_...``, wherever a page has them."""
    keys, sections = set(key_paths()), {path for path in key_paths() if "." not in path} - {"model"}
    metrics = {name for metric in CATALOGUE for name in metric.series()}
    wrong = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()
        named = [found for found in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)", text) if found.split(".")[0] in sections]
        wrong += [f"{page.name}: {name}" for name in named if name not in keys]
        wrong += [f"{page.name}: {name}" for name in re.findall(r"\brnnw_[a-z_]+", text) if name not in metrics]
    assert wrong == []
