"""Configuration: files in, a Config or the exact lines of the refusal out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.command_line import Command
from worker.assembly.input_description import input_description, rules_description
from worker.checkpoints.input_identity import changes
from worker.config import json_schema, key_paths, load_config
from worker.config.checks import AVAILABLE, not_yet
from worker.config.sections import Config
from worker.config.values import Duration
from worker.config.warming import WarmAmount
from worker.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "config"
MINIMAL: dict[str, Any] = {
    "input": {"topic": "readings", "features": ["ax", "ay", "az"]},
    "output": {"topic": "probabilities"},
    "model": {"path": "model.keras"},
}


REQUIRED = ("input.topic", "output.topic", "model.path")


def with_keys(**keys: Any) -> dict[str, Any]:
    """MINIMAL with dotted keys, written with two underscores: sequence__gap="10m"."""
    tree: dict[str, Any] = json.loads(json.dumps(MINIMAL))
    for path, value in keys.items():
        *sections, last = path.split("__")
        section = tree
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return tree


def load(tmp_path: Path, tree: object, **environ: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return load_config(file, environ)


def refusal(tmp_path: Path, tree: object, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, tree, **environ)
    prefix = f"{tmp_path / 'c.yaml'}: "
    lines = str(caught.value).splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_only_required_keys_give_the_defaults_of_the_documented_file(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL) == load_config(CONFIG / "worker.yaml", {})


def test_documented_file_names_every_key() -> None:
    def paths(tree: dict[str, Any], prefix: str = "") -> set[str]:
        found = {f"{prefix}{key}" for key in tree}
        return found.union(*(paths(v, f"{prefix}{k}.") for k, v in tree.items() if isinstance(v, dict)))

    text = (CONFIG / "worker.yaml").read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=worker.schema.json"
    parts = {"model.path.encoder", "model.path.decoder", "input.pairs.path", "input.pairs.name", "input.pairs.value"}
    assert paths(yaml.safe_load(text)) == set(key_paths()) - parts


def test_schema_file_is_the_models_schema() -> None:
    assert json.loads((CONFIG / "worker.schema.json").read_text()) == json_schema()


def test_schema_describes_every_key_and_accepts_the_documented_file() -> None:
    schema = json_schema()
    bare = [
        f"{name}.{key}"
        for name, section in {"Config": schema, **schema["$defs"]}.items()
        for key, field in section["properties"].items()
        if not field.get("description") and not schema["$defs"][field["$ref"].split("/")[-1]].get("description")
    ]
    assert bare == []
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(yaml.safe_load((CONFIG / "worker.yaml").read_text()))
    validator.validate(
        with_keys(http__port="${PORT:-1}", state__idle="${IDLE}", log__level="${LEVEL}", model__allow_lambda="${L}")
    )
    wrong = with_keys(sequence__gap="10 parsecs", http__port="9100", batch__size=3)
    assert len(list(validator.iter_errors(wrong))) == 3


@pytest.mark.parametrize(
    ("text", "ms", "shown"),
    [
        ("250ms", 250, "250ms"),
        ("30s", 30_000, "30s"),
        ("10m", 600_000, "10m"),
        ("24h", 86_400_000, "24h"),
        ("7d", 604_800_000, "168h"),
        ("0ms", 0, "0ms"),
        ("1500ms", 1500, "1500ms"),
    ],
)
def test_durations(text: str, ms: int, shown: str) -> None:
    assert Duration.parse(text) == Duration(ms)
    assert (str(Duration(ms)), Duration(ms).seconds) == (shown, ms / 1000)
    assert Duration.parse(shown).ms == ms


@pytest.mark.parametrize("text", ["10 parsecs", "10", 10, "", "1.5s", "-1s", "s", "1h30m", "10S", True, "1s\n"])
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"sequence__gap": "10 parsecs"},
            "sequence.gap: '10 parsecs' is not a duration (write 250ms, 30s, 10m or 24h)",
        ),
        ({"sequence__gap": 30}, "sequence.gap: 30 is not a duration (write 250ms, 30s, 10m or 24h)"),
        ({"sequence__gap": "0s"}, "sequence.gap: should be longer than 0"),
        ({"sequence__gap": "25h"}, "sequence.gap: 25h can never take effect, state.idle forgets the stream after 24h"),
        ({"sequence__length": 0}, "sequence.length: should be at least 1, not 0"),
        ({"sequence__length": True}, "sequence.length: should be a whole number"),
        ({"sequence__length": 7.5}, "sequence.length: should be a whole number"),
        ({"batch__max_events": 0}, "batch.max_events: should be at least 1, not 0"),
        ({"batch__max_events": "4096"}, "batch.max_events: should be a whole number"),
        ({"state__keep": 0}, "state.keep: should be at least 1, not 0"),
        ({"state__rebuild_from": "0d"}, "state.rebuild_from: should be longer than 0"),
        (
            {"state__rebuild_from": "7d", "state__recover": "reset"},
            "state.rebuild_from: is for state.recover rebuild, but it is reset",
        ),
        (
            {"state__warm": "500"},
            "state.warm: '500' is no amount (write a time such as 10m, or a number such as 500 events)",
        ),
        (
            {"state__warm": 500},
            "state.warm: 500 is no amount (write a time such as 10m, or a number such as 500 events)",
        ),
        ({"state__warm": "0m"}, "state.warm: should be longer than 0"),
        (
            {"state__on_model_change": "warm"},
            "state.on_model_change: warm needs state.warm, how much of the log to replay (10m, or 500 events)",
        ),
        (
            {"state__warm": "10m", "state__recover": "reset"},
            "state.warm: is for state.recover rebuild or state.on_model_change warm, but these are reset and fail",
        ),
        (
            {"state__warm": "10m", "state__rebuild_from": "7d"},
            "state.warm: says how far back a rebuild goes, as state.rebuild_from does; leave out one of the two",
        ),
        ({"state__on_partitions_change": "keep"}, "state.on_partitions_change: 'keep' is not one of 'fail' or 'reset'"),
        ({"state__kep": 2}, "state.kep: unknown key (did you mean state.keep?)"),
        ({"gap": "3s"}, "gap: unknown key (did you mean sequence.gap?)"),
        ({"log__zzz": 1}, "log.zzz: unknown key (known here: format, level)"),
        ({"model__labels": ["up", "up"]}, "model.labels: 'up' is given twice"),
        ({"model__labels": [True]}, "model.labels.0: should be text, not true (put it in quotes)"),
        ({"model__labels": "up"}, "model.labels: should be a list"),
        ({"model__path": 3}, "model.path: should be a path or a mapping of keys"),
        ({"model__path": {"encoder": "a"}}, "model.path.decoder: is required"),
        ({"model__path": {"encoder": "a", "decoder": "b"}}, "model.path: encoder and decoder are for task seq2seq"),
        ({"model__imports": ["cells", "cells"]}, "model.imports: 'cells' is given twice"),
        ({"model__imports": "cells"}, "model.imports: should be a list"),
        (
            {"model__imports": ["my/cells.py"]},
            "model.imports.0: 'my/cells.py' is not the name of a Python module; write cells for a file cells.py",
        ),
        ({"model__imports": ["my.class"]}, "model.imports.0: 'my.class' is not the name of a Python module"),
        ({"model__allow_lambda": "yes please"}, "model.allow_lambda: should be true or false"),
        ({"model__allow_lambda": 1}, "model.allow_lambda: should be true or false"),
        ({"model__sha256": "abc"}, "model.sha256: should be 64 hexadecimal digits"),
        ({"model__beams": 4}, "model.beams: is for task seq2seq, but model.task is score"),
        ({"model__temperature": 0.5}, "model.temperature: is for task generate or seq2seq"),
        ({"model__parity_tolerance": float("nan")}, "model.parity_tolerance: should be a finite number, not nan"),
        ({"output__emit_delta": -0.1}, "output.emit_delta: should be at least 0.0, not -0.1"),
        ({"output__emit": "always"}, "output.emit: 'always' is not one of 'every_event', 'sequence_end', 'every_item'"),
        ({"output__emit": "sequence_end"}, "output.emit: sequence_end needs sequence.end or sequence.length"),
        (
            {"output__emit": "every_item"},
            "output.emit: every_item is for tasks that generate (for task score use every",
        ),
        ({"output__topic": "readings"}, "output.topic: 'readings' is input.topic too"),
        ({"output__topic": "a b"}, "output.topic: 'a b' is not a topic name"),
        ({"output__topic": ".."}, "output.topic: '..' is not a topic name"),
        ({"dead_letters__topic": "readings"}, "dead_letters.topic: 'readings' is input.topic too"),
        ({"dead_letters__topic": "probabilities"}, "dead_letters.topic: 'probabilities' is output.topic too"),
        ({"input__topic": []}, "input.topic: should not be empty"),
        ({"input__topic": ["a", "a"]}, "input.topic: 'a' is given twice"),
        ({"input__features": ["ax", "ax"]}, "input.features: 'ax' is given twice"),
        ({"input__features": None}, "input.features: is required for task score"),
        (
            {"kafka__security": {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "u", "password": ""}},
            "kafka.security.password: is empty; no broker accepts a login without one",
        ),
        (
            {"kafka__security": {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "", "password": "p"}},
            "kafka.security.username: is empty; no broker accepts a login without one",
        ),
        ({"input__format": "float32", "sequence__id": "run"}, "sequence.id: there is no field 'run' in a value of"),
        ({"input__format": "avro"}, "input.format: avro is not available yet (use json, msgpack or float32)"),
        ({"http__port": 1000.0}, "http.port: should be a whole number, not 1000.0"),
        ({"http__port": 65536}, "http.port: should be at most 65535, not 65536"),
        ({"kafka__security__password": "x"}, "kafka.security.password: is not used with protocol PLAINTEXT"),
        ({"kafka__security__ca_file": "ca.pem"}, "kafka.security.ca_file: is not used with protocol PLAINTEXT"),
        ({"kafka__security": {"protocol": "SSL", "key_file": "k"}}, "kafka.security.key_file: needs cert_file too"),
        ({"kafka__security": {"protocol": "SSL", "key_password": "k"}}, "kafka.security.key_password: needs cert_file"),
        *(
            (
                {"kafka__bootstrap_servers": servers},
                f"kafka.bootstrap_servers: '{wrong}' is not an address; write host:port",
            )
            for servers, wrong in {
                "a:9092,b:x": "b:x",
                "a:9092,": "",
                "a:0": "a:0",
                "a:70000": "a:70000",
                "a b:1": "a b:1",
                "http://a:1/": "http://a:1/",
                "::1:9092": "::1:9092",
                "a:9092 b:9092": "a:9092 b:9092",
            }.items()
        ),
        ({"kafka__security": {"check_hostname": False}}, "kafka.security.check_hostname: is not used with protocol"),
        (
            {"kafka__security": {"protocol": "SASL_SSL", "mechanism": "GSSAPI"}},
            "kafka.security.mechanism: GSSAPI is not available yet (use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512)",
        ),
        (
            {"kafka__security": {"protocol": "SASL_SSL"}, "kafka__consumer": {"sasl.mechanisms": "OAUTHBEARER"}},
            "kafka.consumer.sasl.mechanisms: OAUTHBEARER is not available yet (use PLAIN or SCRAM, in kafka.security",
        ),
        ({"kafka": "here"}, "kafka: should be a mapping of keys"),
        ({"kafka__group_id": "workers\n"}, "kafka.group_id: 'workers\\n' holds a line break"),
        ({"kafka__bootstrap_servers": ["a", "b"]}, "kafka.bootstrap_servers: should be text, not a list"),
        ({"kafka__security__password": 1234}, "kafka.security.password: should be text (put it in quotes)"),
        ({"input__features": "ax, ay"}, "input.features: 'ax, ay' is one name; write a list, [ax, ay]"),
        (
            {"input__features": ["ax,ay", "az"]},
            "input.features: 'ax,ay' is one name of the list; write [ax, ay, az] (or",
        ),
        (
            {"input__features": "ax ay"},
            "input.features: 'ax ay' is one name; write a list, [ax, ay] (or \"value:ax ay\"",
        ),
        ({"input__features": {"x": "a b", "y": "c"}}, "input.features: 'a b' is one name; write a list, [a, b] (or"),
        (
            {"kafka__bootstrap_servers": "SSL://a:9093,SSL://b:9093"},
            "kafka.bootstrap_servers: 'SSL://a:9093': write a:9093 (SSL belongs in kafka.security.protocol)",
        ),
        ({"input__topic": "a,b"}, "input.topic: 'a,b' is not a topic name (letters, digits, '.', '_' and '-', at most"),
        ({"model__path": "a" * 5000}, "model.path: should be at most 4096 characters long"),
        ({"model__path": ""}, "model.path: should not be empty"),
        ({"model__path": "a\0b"}, "model.path: 'a\\x00b' holds a line break or another control character"),
        ({"model__path": "~/m.keras"}, "model.path: '~/m.keras': '~' is not filled in (write ${HOME} and the rest"),
        ({"state__directory": "~/state"}, "state.directory: '~/state': '~' is not filled in (write ${HOME}"),
        ({"state__idle": "99999999999d"}, "state.idle: '99999999999d' is longer than a hundred years"),
        ({"sequence__length": 10**15}, "sequence.length: should be at most 1000000000000, not 1000000000000000"),
        ({"": 1}, "'': unknown key"),
    ],
)
def test_refused_with_one_line_that_names_the_key(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    (found,) = refusal(tmp_path, with_keys(**keys))
    assert found.startswith(line)


def test_all_problems_are_listed(tmp_path: Path) -> None:
    tree = {"input": {"topics": "a"}, "kafka": {"security": {"password": [1]}}, "log": {"level": "loud"}}
    assert refusal(tmp_path, tree) == [
        "kafka.security.password: should be text, not a list",
        "input.topic: is required",
        "input.topics: unknown key (did you mean input.topic?)",
        "output.topic: is required",
        "model.path: is required",
        "log.level: 'loud' is not one of 'debug', 'info', 'warning' or 'error'",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("input: {topic: a}\ninput: {}\n", "input: is given twice (again in line 2)"),
        ("input:\n  topic: a\n  topic: b\n", "input.topic: is given twice (again in line 3)"),
        ("input: [\n", "line 2, column 1: not YAML: "),
        ("a: &x [*x]\n", "a.0: an alias makes this endless"),
        ("- 1\n", "should be a mapping of keys such as"),
        ("a: !!python/object/apply:os.system [x]\n", "line 1, column 4: not YAML: could not determine a constructor"),
    ],
)
def test_refused_yaml(tmp_path: Path, text: str, line: str) -> None:
    (found,) = refusal(tmp_path, text)
    assert found.startswith(line)


NUMBER_OF_TWO = "can be read in two ways (write a plain one, or quote it if it is text)"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("http: {port: 0100}", f"http.port: the number in line 1 {NUMBER_OF_TWO}"),
        ("http: {port: 1:30}", f"http.port: the number in line 1 {NUMBER_OF_TWO}"),
        ("http: {port: 0b11}", f"http.port: the number in line 1 {NUMBER_OF_TWO}"),
        ("kafka: {group_id: 007}", f"kafka.group_id: the number in line 1 {NUMBER_OF_TWO}"),
        ("kafka: {security: {password: 0042}}", f"kafka.security.password: the number in line 1 {NUMBER_OF_TWO}"),
        (f"http: {{port: {'9' * 5000}}}", "http.port: the number in line 1 has more than 40 digits"),
        (
            'http: {port: !!int ""}',
            "not YAML: a value is not what its tag (!!int, !!bool, ...) says: leave the tag out",
        ),
        ("http: {port: !!bool foo}", "not YAML: a value is not what its tag"),
        ("http: {port: !!timestamp foo}", "not YAML: a value is not what its tag"),
        ("http: {<<: 3}", "line 1, column 12: not YAML: expected a mapping or list of mappings for merging"),
        ("http: {port: ${PORT}}", "line 1, column 15: not YAML: expected ',' or '}', but got '{' (put a variable in"),
        (
            "http:\n\tport: 1",
            "line 2, column 1: not YAML: found character '\\t' that cannot start any token (indent with",
        ),
        ("1: 2", "1: a key should be text (line 1; put it in quotes)"),
        ("kafka: {consumer: {yes: 2}}", "kafka.consumer.yes: a key should be text (line 1; put it in quotes)"),
        ("~: 2", "~: a key should be text"),
        ("{[a]: 1}", "line 1: a key should be text"),
        ('"\\ud800": 1', "\\ud800: a key should be text"),
        ('kafka: {group_id: "\\ud800"}', "kafka.group_id: the text in line 1 has half of a surrogate pair"),
        ("a: \x1b", "not YAML: character 3 is a control character (0x1b)"),
        ("a: " + "[" * 5000, "not YAML: it is nested too deeply"),
        ("a: " + "[" * 40 + "]" * 40, "line 1: is nested more than 32 deep"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not YAML: but found another document"),
        ("a: *nope", "line 1, column 4: not YAML: found undefined alias 'nope'"),
        ("hello", "should be a mapping of keys such as"),
    ],
)
def test_odd_yaml_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    (found,) = refusal(tmp_path, text)
    assert found.startswith(line)
    assert found.isprintable()


def test_an_empty_file_is_told_what_it_needs(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "---\n"):
        assert refusal(tmp_path, text or "\n") == [f"{key}: is required" for key in REQUIRED]


def test_no_more_is_said_than_somebody_reads(tmp_path: Path) -> None:
    lines = refusal(tmp_path, {f"key{number}": number for number in range(1000)})
    assert (len(lines), lines[-1]) == (51, "and 953 more problems")
    lines = refusal(tmp_path, {"k" * 100_000: 1, "in\nput": 1})
    assert max(map(len, lines)) < 600
    assert "in\\nput: unknown key (did you mean input?)" in lines


def test_dates_and_underscores_are_what_they_look_like(tmp_path: Path) -> None:
    text = yaml.safe_dump(MINIMAL) + "kafka: {group_id: 2026-01-01}\nstate: {max_streams: 2_000_000}\n"
    config = load(tmp_path, text)
    assert (config.kafka.group_id, config.state.max_streams) == ("2026-01-01", 2_000_000)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"input__start": "7d"}, "input.start: 7d is not available yet (use earliest)"),
        ({"input__start": "2026-01-01"}, "input.start: 2026-01-01 is not available yet (use earliest)"),
        ({"input__format": "protobuf"}, "input.format: protobuf is not available yet (use json, msgpack or float32)"),
        ({"input__schema": {"registry": "http://r"}}, "input.schema: is not available yet (leave it out)"),
        (
            {"input__stream_format": "hex", "input__stream": "key:id"},
            "input.stream_format: hex is for keys that are no text; key:id reads a key as JSON (leave it out)",
        ),
        ({"input__missing": "hold"}, "input.missing: hold is not available yet (use refuse)"),
        ({"input__missing": 0}, "input.missing: 0.0 is not available yet (use refuse)"),
        ({"input__coerce": True}, "input.coerce: true is not available yet (use false)"),
        ({"input__records": "."}, "input.records: . is not available yet (leave it out)"),
        ({"input__pairs": {"path": "metrics"}}, "input.pairs: is not available yet (leave it out)"),
        ({"input__sequence_number": "n"}, "input.sequence_number: n is not available yet (leave it out)"),
        ({"output__format": "avro"}, "output.format: avro is not available yet (use json or msgpack)"),
        (
            {"output__emit": "alert"},
            "output.emit: alert is not available yet (use every_event, sequence_end, every_item or change)",
        ),
        ({"output__alert": {"unit": "up"}}, "output.alert: is not available yet (leave it out)"),
        ({"output__score": "forecast"}, "output.score: forecast is not available yet (leave it out)"),
        ({"dead_letters__on_failure": "drop"}, "dead_letters.on_failure: drop is not available yet (use stop)"),
        (
            {"model__path": "s3://bucket/m.keras#12ab"},
            "model.path: what follows # should be the file's SHA-256, 64 hex digits, not '12ab'",
        ),
        (
            {"model__path": "simplecache::s3://bucket/m.keras"},
            "model.path: this is more than one URL; name the file itself",
        ),
        ({"http__token": "t0ken"}, "http.token: is not available yet (leave it out)"),
        ({"http__token_file": "token"}, "http.token_file: is not available yet (leave it out)"),
        ({"input__sequence_numbers": "n"}, "input.sequence_numbers: unknown key (did you mean input.sequence_number?)"),
    ],
)
def test_what_is_not_available_yet_is_said_so(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    (found,) = refusal(tmp_path, with_keys(**keys))
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"model__every": 16}, "model.every: 16 needs model.window, the events that the model is run on"),
        (
            {"model__window_fill": "zeros"},
            "model.window_fill: zeros needs model.window, the events that the model is run on",
        ),
        ({"model__window": 70_000}, "model.window: 70,000 events are more than 65,536, the most there can be"),
        ({"model__window": 0}, "model.window: "),
        (
            {"model__window": 8, "model__every": 2_000_000},
            "model.every: 2,000,000 events are more than 1,000,000, the most",
        ),
        (
            {"model__window": 8, "model__memory": 4},
            "model.memory: is for the streaming form, and model.window is given; leave out one of the two",
        ),
        (
            {"model__window": 8, "model__every": 5, "sequence__length": 9},
            "sequence.length: 9 ends each sequence before its first answer, after event 10 (model.window, "
            "model.every); set it to 10 or more, or set model.window_fill: zeros",
        ),
    ],
)
def test_windows_that_can_not_be(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    (found,) = refusal(tmp_path, with_keys(**keys))
    assert found.startswith(line)


def test_keys_that_are_not_available_yet_may_stand_with_their_defaults(tmp_path: Path) -> None:
    assert [line for line in AVAILABLE if line not in set(key_paths())] == []
    documented = yaml.safe_load((CONFIG / "worker.yaml").read_text())
    assert not_yet(load(tmp_path, documented)) == []
    keys: dict[str, Any] = {
        "input__start": "${START:-earliest}",
        "input__schema": None,
        "http__token": None,
    }
    assert load(tmp_path, with_keys(**keys)) == load(tmp_path, MINIMAL)


def test_aliases_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (found,) = refusal(tmp_path, "\n".join(rows))
    assert found.endswith("an alias makes this too large")


@pytest.mark.parametrize("verb", ["check", "run"])
def test_files_that_are_no_configuration_end_a_command_with_status_2(
    tmp_path: Path, command: Command, verb: str
) -> None:
    contents = {
        "binary": (b"\xff\xfe\xfd", "is not UTF-8 (byte 0): save it as UTF-8"),
        "latin1": (b"input: {topic: \xe9}", "is not UTF-8 (byte 15): save it as UTF-8"),
        "huge": (b"#" * ((1 << 20) + 1), "is larger than 1048576 bytes: not a configuration"),
        "list": (b"- input\n", "should be a mapping of keys such as 'input:' and 'output:'"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    told = {name: reason for name, (_, reason) in contents.items()}
    told |= {"folder": "can't be read: Is a directory", "none": "can't be read: No such file or directory"}
    for name, reason in told.items():
        ended = command(verb, "-c", str(tmp_path / name))
        assert (ended.status, ended.out, ended.err) == (2, "", f"worker: {tmp_path / name}: {reason}\n")


def test_numbers_in_digits_stay_text_where_text_is_wanted(tmp_path: Path) -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "${U}", "password": "${P}"}
    config = load(tmp_path, with_keys(kafka__security=security), U="1234", P="0012")
    assert config.kafka.security.password is not None
    assert config.kafka.security.password.get_secret_value() == "0012"


def test_secrets_come_from_files_and_never_show(tmp_path: Path) -> None:
    for name in ("user", "pass"):
        (tmp_path / name).write_text(f"s3cret-{name}\n")
    tree = with_keys(
        kafka__security={
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-512",
            "username_file": str(tmp_path / "user"),
            "password_file": "${DIR}/pass",
        },
        kafka__producer={"sasl_plain_password": "s3cret-option"},
    )
    config = load(tmp_path, tree, DIR=str(tmp_path))
    security = config.kafka.security
    assert security.username is not None
    assert security.password is not None
    found = [secret.get_secret_value() for secret in (security.username, security.password)]
    assert found == ["s3cret-user", "s3cret-pass"]
    assert "s3cret" not in repr(config) + str(config)


def test_secret_files_that_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "latin1").write_bytes(b"p\xe9")
    (tmp_path / "huge").write_text("x" * 70_000)
    tree = with_keys(
        kafka__security={"username": "me", "username_file": str(tmp_path / "empty"), "password_file": "/nowhere/p"}
    )
    assert refusal(tmp_path, tree) == [
        "kafka.security.username: given twice, here and in username_file",
        "kafka.security.password_file: can't read '/nowhere/p': No such file or directory",
    ]
    for name, reason in (
        ("empty", "'{}' is empty"),
        ("latin1", "can't read '{}': it is not UTF-8 text"),
        ("huge", "'{}' is larger than 65536 bytes: not a secret"),
        ("", "can't read '{}': Is a directory"),
    ):
        file = str(tmp_path / name)
        assert refusal(tmp_path, with_keys(kafka__security={"password_file": file})) == [
            f"kafka.security.password_file: {reason.format(file)}"
        ]


def test_dead_letters_follow_the_first_input_topic_unless_named(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"input__topic": ["doors", "windows"]}, "doors.dead"),
        ({"dead_letters": None}, "readings.dead"),
        ({"dead_letters__topic": None}, None),
        ({"dead_letters__topic": "refused"}, "refused"),
    ]
    assert [load(tmp_path, with_keys(**keys)).dead_letters.topic for keys, _ in cases] == [name for _, name in cases]


def test_empty_sections_are_the_defaults(tmp_path: Path) -> None:
    tree = with_keys(batch=None, sequence=None, kafka={"security": None, "consumer": None})
    assert load(tmp_path, tree) == load(tmp_path, MINIMAL)


def test_float32_needs_no_features(tmp_path: Path) -> None:
    config = load(tmp_path, {**MINIMAL, "input": {"topic": ["a", "b"], "format": "float32"}})
    assert (config.input.topics, config.input.features) == (("a", "b"), None)


def test_config_is_frozen(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.batch.max_events = 1


def test_how_far_back_a_rebuild_goes_may_be_in_days(tmp_path: Path) -> None:
    state = load(tmp_path, with_keys(state__rebuild_from="7d")).state
    assert (state.rebuild_from, state.recover) == (Duration(7 * 24 * 3_600_000), "rebuild")


@pytest.mark.parametrize(
    ("text", "time", "events"),
    [("10m", Duration(600_000), None), ("500 events", None, 500), ("1 event", None, 1), ("${WARM}", None, 70)],
)
def test_how_much_warms_a_new_model(tmp_path: Path, text: str, time: Duration | None, events: int | None) -> None:
    keys = with_keys(state__warm=text, state__on_model_change="warm", state__recover="fail")
    warm = load(tmp_path, keys, WARM="70 events").state.warm
    assert warm == WarmAmount(time, events)


INPUT = {
    "input.features": ["ax", "ay", "az"],
    "input.format": "json",
    "input.stream": "key",
    "input.time": "timestamp",
}


@pytest.mark.parametrize(
    ("keys", "change"),
    [
        ({}, {}),
        ({"input__features": ["ay", "ax", "az"]}, {"input.features": ["ay", "ax", "az"]}),
        ({"input__features": "x"}, {"input.features": "x"}),
        ({"input__format": "msgpack"}, {"input.format": "msgpack"}),
        ({"input__stream": "device.id"}, {"input.stream": "device.id"}),
        ({"input__time": "at"}, {"input.time": "at"}),
        ({"input__time": "at", "input__time_unit": "s"}, {"input.time": "at", "input.time_unit": "s"}),
        ({"input__format": "float32"}, {"input.format": "float32", "input.features": None}),
        # What names it, where it is, and when sequences begin: the numbers mean the same.
        ({"input__topic": "others", "kafka__group_id": "g", "output__topic": "o", "output__format": "msgpack"}, {}),
        ({"sequence__gap": "1m", "sequence__id": "s", "state__idle": "1h", "model__labels": ["a", "b"]}, {}),
    ],
)
def test_what_states_are_fed_with(tmp_path: Path, keys: dict[str, Any], change: dict[str, Any]) -> None:
    assert json.loads(input_description(load(tmp_path, with_keys(**keys)))) == {**INPUT, **change}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"input__stream": "value:d"}, {"input__stream": "d"}, True),
        ({"input__time": "value:at"}, {"input__time": "at"}, True),
        ({"input__features": ["value:a", "b"]}, {"input__features": ["a", "value:b"]}, True),
        ({"input__features": "value:timestamp"}, {"input__features": "timestamp"}, True),
        ({"input__features": {"m": "value:x"}}, {"input__features": {"m": "x"}}, True),
        ({"input__stream": "value:key"}, {"input__stream": "key"}, False),
        ({"input__stream": "value:header:h"}, {"input__stream": "header:h"}, False),
        ({"input__stream": "value:key:k"}, {"input__stream": "key:k"}, False),
        ({"input__stream": "value:value:d"}, {"input__stream": "value:d"}, False),
        ({"input__stream": "key:value:d"}, {"input__stream": "key:d"}, False),  # a field of the key, "value:d"
        ({"input__time": "value:timestamp"}, {"input__time": "timestamp"}, False),
        ({"input__stream": r"a\.b"}, {"input__stream": "a.b"}, False),
    ],
)
def test_what_states_are_fed_with_does_not_depend_on_its_spelling(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    texts = [input_description(load(tmp_path, with_keys(**keys)), ["m", "n"]) for keys in (one, other)]
    assert (texts[0] == texts[1]) == same
    # A file of a version that wrote the spelling down.
    written = json.loads(texts[0]) | {key.replace("__", "."): value for key, value in one.items()}
    assert (changes(json.dumps(written), texts[1]) == "") == same


@pytest.mark.parametrize("key", ["id", "start", "end"])
def test_nor_do_the_rules(tmp_path: Path, key: str) -> None:
    plain, spelt = (rules_description(load(tmp_path, with_keys(**{f"sequence__{key}": s}))) for s in ("s", "value:s"))
    assert plain == spelt
    assert changes(spelt.replace('"s"', '"value:s"'), plain) == ""


def test_a_change_of_the_input_is_told_by_key() -> None:
    was = json.dumps({"input.stream": "key", "input.features": ["ax", "ay"], "input.time": "at"})
    now = json.dumps({"input.time": "at", "input.features": ["ay", "ax"], "model.vocabulary": "a.txt"})
    assert changes(was, now) == (
        'input.features was ["ax","ay"], is ["ay","ax"]; input.stream was "key", is null; '
        'model.vocabulary was null, is "a.txt"'
    )
    assert changes(was, was) == ""
    assert changes("{", was).startswith('input was "{", is null; input.features was null')


def test_what_returns_states_to_zero_is_described(tmp_path: Path) -> None:
    keys = {"sequence__gap": "1m", "sequence__length": 7, "sequence__end": "last", "state__idle": None}
    plain = json.loads(rules_description(load(tmp_path, MINIMAL)))
    found = json.loads(rules_description(load(tmp_path, with_keys(**keys))))
    assert plain.keys() >= {f"sequence.{key}" for key in ("id", "start", "end", "length", "gap")}
    assert (plain["state.idle"], plain["state.max_streams"]) == ("24h", 1_000_000)
    assert {key: found[key] for key in found if found[key] != plain[key]} == {
        "sequence.end": "last",
        "sequence.gap": "1m",
        "sequence.length": 7,
        "state.idle": None,
    }
    assert rules_description(load(tmp_path, with_keys(input__stream="d", state__keep=9, output__emit="change"))) == (
        rules_description(load(tmp_path, MINIMAL))
    )
