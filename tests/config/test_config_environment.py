"""Environment variables in a configuration: read in one way, or refused with what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.test_config import MINIMAL, load, refusal, with_keys
from worker.config.values import Duration


def test_environment_variables_fill_any_value(tmp_path: Path) -> None:
    tree = with_keys(
        kafka__bootstrap_servers="${HOST}:${PORT:-9092}",
        kafka__instance_id="${POD:-}",
        kafka__group_id="$${HOST}",
        kafka__consumer={"fetch_min_bytes": "${BYTES:-5}"},
        http__port="${PORT:-9100}",
        model__labels=["${UP:-up}", "down"],
        model__parity_tolerance="${TOLERANCE}",
        model__allow_lambda="${TRUSTED}",
        model__imports=["${CELLS:-cells}"],
        sequence__gap="${GAP}",
        state__idle="${IDLE:-}",
    )
    config = load(tmp_path, tree, HOST="broker", GAP="3m", TOLERANCE="1e-3", TRUSTED="true")
    assert config.kafka.bootstrap_servers == "broker:9092"
    assert (config.kafka.instance_id, config.kafka.group_id) == (None, "${HOST}")
    assert config.kafka.consumer == {"fetch_min_bytes": 5}
    assert (config.http.port, config.model.labels) == (9100, ("up", "down"))
    assert (config.sequence.gap, config.state.idle) == (Duration(180_000), None)
    assert config.model.parity_tolerance == 1e-3
    assert (config.model.allow_lambda, config.model.imports) == (True, ("cells",))


def test_missing_variables_are_named_with_the_keys_path(tmp_path: Path) -> None:
    tree = with_keys(kafka__group_id="${GROUP}", model__labels=["a", "${B}"], log__level="${oops")
    assert refusal(tmp_path, tree) == [
        "kafka.group_id: the environment variable GROUP is not set (or write ${GROUP:-default})",
        "log.level: '${' should be followed by a name and '}' (write $${ for a literal ${)",
        "model.labels.1: the environment variable B is not set (or write ${B:-default})",
    ]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("http.port", "9101", 9101),
        ("http.port", " 9101\n", 9101),
        ("http.port", "0", 0),
        ("model.seed", "-5", -5),
        ("model.parity_tolerance", "1e-3", 0.001),
        ("model.parity_tolerance", ".5", 0.5),
        ("model.parity_tolerance", "1", 1.0),
        ("model.allow_lambda", "true", True),
        ("model.allow_lambda", "False", False),
        ("state.idle", "3m", Duration(180_000)),
        ("kafka.instance_id", "007", "007"),
        ("kafka.instance_id", "null", "null"),
        ("kafka.group_id", "workers\n", "workers"),
        ("kafka.group_id", "${NOT_FILLED_IN_AGAIN}", "${NOT_FILLED_IN_AGAIN}"),
        ("input.features", "x", "x"),
        ("input.features", "[ax, ay]", ("ax", "ay")),
        ("input.features", "[on, 1, 'a y']", ("on", "1", "a y")),
        ("input.topic", "[doors, windows]", ("doors", "windows")),
        ("model.labels", "[yes, no]", ("yes", "no")),
        ("model.imports", "[]", ()),
    ],
)
def test_a_variable_is_what_its_key_wants(tmp_path: Path, key: str, text: str, value: Any) -> None:
    tree = with_keys(**{key.replace(".", "__"): "${V}"})
    if key == "model.seed":
        assert refusal(tmp_path, tree, V=text) == [
            "model.seed: is for task generate or seq2seq, but model.task is score"
        ]
        return
    found: Any = load(tmp_path, tree, V=text)
    for part in key.split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "text", "line"),
    [
        ("http.port", "0100", "'0100' is not a whole number (write 100)"),
        ("http.port", "1e3", "'1e3' is not a whole number (write 1000)"),
        ("http.port", "9100.0", "'9100.0' is not a whole number (write 9100)"),
        ("http.port", "1:30", "'1:30' is not a whole number"),
        ("http.port", "0x10", "'0x10' is not a whole number"),
        ("http.port", "\u0663", "'\u0663' is not a whole number"),
        ("http.port", "9" * 100, f"'{'9' * 60}...' is not a whole number"),
        ("http.port", "", "the environment variable V is empty (set it, or write ${V:-default})"),
        ("http.port", "-1", "should be at least 0, not -1"),
        ("model.parity_tolerance", "nan", "'nan' is not a number"),
        ("model.parity_tolerance", "0,5", "'0,5' is not a number"),
        ("model.parity_tolerance", "1e999", "should be a finite number, not inf"),
        ("model.allow_lambda", "yes", "'yes' is not true or false (write true)"),
        ("model.allow_lambda", "off", "'off' is not true or false (write false)"),
        ("model.allow_lambda", "1", "'1' is not true or false"),
        ("kafka.instance_id", "", "the environment variable V is empty (set it, or write ${V:-} for null)"),
        ("kafka.group_id", "", "the environment variable V is empty (set it, or write ${V:-default})"),
        ("kafka.group_id", "a\nb", "'a\\nb' holds a line break or another control character"),
        ("kafka.group_id", "\udcff", "the environment variable V is not UTF-8 text"),
        ("input.features", "ax,ay", "'ax,ay' is one name; write a list, [ax, ay]"),
        ("input.features", "[ax, ay", "'[ax, ay' begins like a list, but is not one (write [first, second])"),
        ("input.features", "[[ax], ay]", "'[[ax], ay]' begins like a list, but is not one"),
        ("input.features", "[ax, ax]", "'ax' is given twice"),
        ("input.features", "[]", "should not be empty"),
        (
            "input.topic",
            "a,b",
            "'a,b' is not a topic name (letters, digits, '.', '_' and '-', at most 249); for several",
        ),
        ("model.labels", "up,down", "should be a list ([first, second])"),
        ("state.idle", "null", "'null' is not a duration (write 250ms, 30s, 10m or 24h)"),
        (
            "input.features",
            "ax ay",
            "'ax ay' is one name; write a list, [ax, ay] (or \"value:ax ay\" for such a field)",
        ),
        (
            "input.features",
            "- ax\n- a y",
            "'- ax\\n- a y' is one name; write a list, [ax, a y] (or \"value:- ax\\n- a y\" for",
        ),
        ("input.features", "- ax", "'- ax' is one name; write a list, [ax] (or"),
        (
            "input.features",
            "{a: b}",
            "'{a: b}' is one name; write a mapping in the file itself, without quotes or a var",
        ),
        ("kafka", "x", "a section can't come from a variable (write its keys, each with one of its own)"),
        ("http", "", "a section can't come from a variable"),
        ("kafka.security", "{protocol: SSL}", "a section can't come from a variable"),
        ("kafka.consumer", "x", "a section can't come from a variable"),
    ],
)
def test_a_variable_that_is_not_what_its_key_wants(tmp_path: Path, key: str, text: str, line: str) -> None:
    (found,) = refusal(tmp_path, with_keys(**{key.replace(".", "__"): "${V}"}), V=text)
    assert found.startswith(f"{key}: {line}")


@pytest.mark.parametrize("key", ["http", "kafka.producer", "kafka.security"])
@pytest.mark.parametrize("text", ["${H}", "${H:-}", "${H:-x}"])
def test_that_a_section_comes_from_no_variable_is_said_first(tmp_path: Path, key: str, text: str) -> None:
    """Whether or not the variable is there: no default and no value of it would help."""
    tree = with_keys(**{key.replace(".", "__"): text})
    for environ in ({}, {"H": ""}, {"H": "{port: 1}"}):
        assert refusal(tmp_path, tree, **environ) == [
            f"{key}: a section can't come from a variable (write its keys, each with one of its own)"
        ]
    assert load(tmp_path, with_keys(http={"port": "${H}"}), H="9101").http.port == 9101


def test_a_variable_that_holds_a_list_is_one_name_inside_of_a_list(tmp_path: Path) -> None:
    tree = with_keys(input__features=["${V}", "y"])
    assert refusal(tmp_path, tree, V="[a, b, c]") == [
        "input.features: '[a, b, c]' is one name of the list; write [a, b, c, y] (or \"value:[a, b, c]\" for such a "
        "field)"
    ]
    assert load(tmp_path, with_keys(input__features="${V}"), V="[a, b, c, y]").input.features == ("a", "b", "c", "y")
    assert load(tmp_path, with_keys(input__features=["a b", "{c}", "[d]"])).input.features == ("a b", "{c}", "[d]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("lz4", "lz4"),
        ("10.0.0.1:9092", "10.0.0.1:9092"),
        ("0100", "'0100' can be read in two ways (write 100)"),
        ("1e3", "'1e3' can be read in two ways (write 1000)"),
        ("1:30", "'1:30' can be read in two ways (write plain digits)"),
        ("no", "'no' can be read in two ways (write false)"),
        ("", "the environment variable V is empty (set it, or write ${V:-default})"),
    ],
)
def test_a_variable_in_a_clients_options(tmp_path: Path, text: str, value: Any) -> None:
    tree = with_keys(kafka__consumer={"a": "${V}", "b": ["${V}"]})
    if not (isinstance(value, str) and "(" in value):
        found = load(tmp_path, tree, V=text).kafka.consumer
        assert (found, type(found["a"])) == ({"a": value, "b": [value]}, type(value))
    else:
        assert refusal(tmp_path, tree, V=text) == [f"kafka.consumer.a: {value}", f"kafka.consumer.b.0: {value}"]


def test_digits_of_a_secret_stay_text_among_a_clients_options(tmp_path: Path) -> None:
    config = load(tmp_path, with_keys(kafka__consumer={"ssl_password": "${V}"}), V="0123")
    assert config.kafka.consumer == {"ssl_password": "0123"}


@pytest.mark.parametrize(
    ("text", "unset", "set_to_g"),
    [
        ("${G:-a}", "a", "g"),
        ("${G:-{a}}", "{a}", "g"),
        ("${G:-a:-b}", "a:-b", "g"),
        ("${G:-$${H}}", "${H}", "g"),
        ("$${G}", "${G}", "${G}"),
        ("x$G", "x$G", "x$G"),
        ("${G:-a}${G:-b}", "ab", "gg"),
    ],
)
def test_defaults_and_signs(tmp_path: Path, text: str, unset: str, set_to_g: str) -> None:
    tree = with_keys(kafka__group_id=text)
    assert [load(tmp_path, tree, **given).kafka.group_id for given in ({}, {"G": "g"})] == [unset, set_to_g]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("${G:-{a}", "a '${' has no '}' of its own (braces in a default must be in pairs)"),
        ("${G:-${H}}", "a default is text and can't hold another variable (write $${ for a literal ${)"),
        ("${G:-}", "is empty (write a default after ':-')"),
        ("${G-a}", "'${' should be followed by a name and '}' (write $${ for a literal ${)"),
        ("${ G }", "'${' should be followed by a name and '}' (write $${ for a literal ${)"),
        ("$G", "'$G' is not a variable (write ${G})"),
        ("$HOME/x", "'$HOME/x' is not a variable (write ${HOME}/x)"),
    ],
)
def test_signs_that_make_no_variable(tmp_path: Path, text: str, line: str) -> None:
    assert refusal(tmp_path, with_keys(kafka__group_id=text)) == [f"kafka.group_id: {line}"]


def test_an_input_of_a_model_may_have_its_fields_from_a_variable(tmp_path: Path) -> None:
    tree = with_keys(input__features={"series": "${V}", "device": ["id"]})
    assert load(tmp_path, tree, V="[a, b]").input.features == {"series": ("a", "b"), "device": ("id",)}
    (found,) = refusal(tmp_path, tree, V="a,b")
    assert found.startswith("input.features: 'a,b' is one name; write a list, [a, b]")
    assert load(tmp_path, MINIMAL).input.features == ("ax", "ay", "az")


def test_what_refusals_say_to_write_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, with_keys(input__features=["value:ax,ay"])).input.features == ("value:ax,ay",)
    assert load(tmp_path, with_keys(kafka__instance_id="${V:-}"), V="").kafka.instance_id is None
    assert load(tmp_path, with_keys(http__port="${V:-9101}"), V="").http.port == 9101
    assert load(tmp_path, with_keys(kafka__group_id="$${G}:-{")).kafka.group_id == "${G}:-{"
    assert (
        load(tmp_path, with_keys(state__directory="${HOME}/state"), HOME="/home/me").state.directory == "/home/me/state"
    )
    quoted = with_keys(kafka__group_id="007", kafka__consumer={"yes": "0100"})
    assert load(tmp_path, quoted).kafka.consumer == {"yes": "0100"}
