"""The report of the suite: figures that were made up here become tables, right to the digit, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.asked import asked_table
from benchmarks.flame import boxes, collapsed, parse, stage_of, stages
from benchmarks.report import GROUPS, PAGE, between, compare, report
from benchmarks.tables import base_of, ratio

MACHINE = {"cores": 2, "processor": "Abacus 9", "python": "3.11.9"}
BELOW = "2 cores (Abacus 9), Python 3.11.9; {} rounds in turns: median (lowest–highest)."
SECTIONS = ("asked", *GROUPS, "latency", "flame")
AT_LEAST_ONCE, EXACTLY_ONCE = "worker, confluent, at_least_once", "worker, confluent, exactly_once"

CLIENTS = {
    "null, kafka-python": [30_000.0, 31_000.0, 29_000.0],
    "worker, kafka-python, at_least_once": [27_000.0, 31_000.0, 21_750.0],
    "null, confluent": [100_000.0, 200_000.0, 125_000.0],
    AT_LEAST_ONCE: [80_000.0, 140_000.0, 93_750.0],
}
PEERS = {AT_LEAST_ONCE: [100_000.0, 120_000.0], "slow <& steady>": [400.0, 600.0], "quick": [12_500.0, 12_000.0]}
RAW = """\
thread (0x1): "MainThread";<module> (/opt/x/worker/__main__.py:9);run (worker/member/loop.py:254);turn (worker/member/loop.py:80) 3
thread (0x1);run (worker/member/loop.py:254);turn (worker/member/loop.py:70);_poll (worker/member/loop.py:201);poll (/opt/x/worker/kafka/confluent/source.py:9) 20
run (worker/member/loop.py:254);turn (worker/member/loop.py:72);turn (worker/pipeline/pipeline.py:45);Pipeline.turn.<locals>.<listcomp> (worker/pipeline/pipeline.py:45);Decoder.decode (worker/codecs/decoding.py:5) 15
run (worker/member/loop.py:254);turn (worker/member/loop.py:72);turn (worker/pipeline/pipeline.py:46);process (worker/engine/engine.py:80) 10
run (worker/member/loop.py:254);turn (worker/member/loop.py:72);turn (worker/pipeline/pipeline.py:46);process (worker/engine/engine.py:80);step_packed (/v/lib/python3.11/site-packages/worker/model/streaming.py:1);step (worker/model/step.py:48);call (/v/lib/python3.11/site-packages/tensorflow/python/eager.py:7);inner (/v/lib/python3.11/site-packages/tensorflow/python/eager.py:9) 25
run (worker/member/loop.py:254);turn (worker/member/loop.py:72);turn (worker/pipeline/pipeline.py:50);encode (worker/codecs/encoding.py:70) 12
run (worker/member/loop.py:254);turn (worker/member/loop.py:74);_send (worker/member/loop.py:220);send (worker/kafka/confluent/sink.py:40) 9
run (worker/member/loop.py:254);turn (worker/member/loop.py:80);commit (worker/member/loop.py:99);committed (worker/member/reporter.py:80) 1
run (worker/member/loop.py:254);turn (worker/member/loop.py:80);commit (worker/member/loop.py:99);commit (worker/member/delivery.py:50) 4
run (worker/member/loop.py:254);turn (worker/member/loop.py:83);turned (worker/member/reporter.py:50);labels (/usr/lib/python3.11/enum.py:3) 1
thread (0x2);run (/usr/lib/python3.11/threading.py:9);serve (worker/web/server.py:7) 400
"""  # noqa: E501


def group(cells: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """As benchmarks/suite.py writes it: a core that is busy all the time."""
    found = {
        name: {"events_per_s": list(speeds), "cpu_us": [1e6 / speed for speed in speeds]}
        for name, speeds in cells.items()
    }
    return {"machine": MACHINE, "rounds": len(next(iter(cells.values()))), "cells": found}


def latency(rate: int, factor: float) -> dict[str, Any]:
    """As ``worker bench --json`` writes it, two rounds."""
    names = {"one hop, confluent": 0.5, AT_LEAST_ONCE: 2.0, EXACTLY_ONCE: 8.0}
    found: list[dict[str, Any]] = [
        {"what": "latency, ms", "client": "confluent", "name": name,
         "rounds": [{"50.0": ms * by, "99.0": 3 * ms * by, "99.9": 10 * ms * by} for by in (factor, factor * 1.5)]}
        for name, ms in names.items()
    ]  # fmt: skip
    found.append({"what": "throughput", "client": "confluent", "name": AT_LEAST_ONCE, "events_per_s": [1.0]})
    return {"machine": MACHINE, "options": {"rate": rate}, "found": found}


def write(folder: Path, **figures: Any) -> Path:
    """A folder of results."""
    folder.mkdir(exist_ok=True)
    for name, each in figures.items():
        (folder / f"{name}.json").write_text(json.dumps(each))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of some groups, latency and the flame."""
    stacks = parse(RAW)
    flame = {"machine": MACHINE, "seconds": 5.0, "samples": 100, "events_per_s": 50_000.0}
    folder = write(tmp_path / "results", clients=group(CLIENTS), peers=group(PEERS))
    write(folder, latency=[latency(1_000, 1.2), latency(100, 1.0)], flame={**flame, "stages": stages(stacks, 5e4)})
    (folder / "flame.raw").write_text(collapsed(stacks))
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with all markers, and words around them."""
    markers = "\n\n".join(
        f"before {name}\n<!-- {name}: made by benchmarks/report.py -->\nold\n<!-- /{name} -->" for name in SECTIONS
    )
    (tmp_path / "docs").mkdir()
    file = tmp_path / "docs" / "performance.md"
    file.write_text(f"# How fast\n\n{markers}\n\nthe end\n")
    return file


def made(page: Path, name: str) -> list[str]:
    """The lines between the markers of a section, without empty ones."""
    text = (
        page.read_text()
        .partition(f"<!-- {name}: made by benchmarks/report.py -->")[2]
        .partition(f"<!-- /{name} -->")[0]
    )
    return [line for line in text.splitlines() if line]


def test_a_group_is_a_table_with_ratios_to_the_null_pipeline_of_its_client(results: Path, page: Path) -> None:
    report(results, page)
    assert made(page, "clients") == [
        "| contender | events/s | / null pipeline of the same client | CPU µs/event |",
        "| --- | ---: | ---: | ---: |",
        "| null, kafka-python | 30,000 (29,000–31,000) | 1 | 33.3 |",
        "| worker, kafka-python, at_least_once | 27,000 (21,750–31,000) | 0.90 (0.75–1.00) | 37.0 |",
        "| null, confluent | 125,000 (100,000–200,000) | 1 | 8.0 |",
        "| worker, confluent, at_least_once | 93,750 (80,000–140,000) | 0.75 (0.70–0.80) | 10.7 |",
        BELOW.format(3),
        "![Throughput of both clients beside their null pipelines](pictures/clients.svg)",
    ]


def test_peers_are_also_told_how_much_slower_they_are(results: Path, page: Path) -> None:
    report(results, page)
    assert made(page, "peers")[:5] == [
        "| contender | events/s | / worker, confluent, at_least_once | times slower | CPU µs/event |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| worker, confluent, at_least_once | 110,000 (100,000–120,000) | 1 | 1 | 9.2 |",
        "| slow <& steady> | 500 (400–600) | 0.0045 (0.0040–0.0050) | 225.0 (200.0–250.0) | 2,083.3 |",
        "| quick | 12,250 (12,000–12,500) | 0.11 (0.10–0.12) | 9.00 (8.00–10.00) | 81.7 |",
    ]


def test_latency_is_a_row_for_each_way_and_columns_by_rate(results: Path, page: Path) -> None:
    report(results, page)
    lines = made(page, "latency")
    assert lines[0] == (
        "| ms | p50 at 100/s | p99 at 100/s | p99.9 at 100/s | p50 at 1,000/s | p99 at 1,000/s | p99.9 at 1,000/s |"
    )
    assert lines[3] == (
        "| worker, confluent, at_least_once | 2.5 (2.0–3.0) | 7.5 (6.0–9.0) | 25.0 (20.0–30.0) "
        "| 3.0 (2.4–3.6) | 9.0 (7.2–10.8) | 30.0 (24.0–36.0) |"
    )
    assert lines[5:] == [BELOW.format(2), "![Latency by rate, client and delivery](pictures/latency.svg)"]


def test_what_is_not_between_markers_stays_and_a_second_report_changes_nothing(results: Path, page: Path) -> None:
    report(results, page)
    once = page.read_text()
    assert [line for line in once.splitlines() if line.startswith(("# ", "before", "the end"))] == [
        "# How fast", *(f"before {name}" for name in SECTIONS), "the end"
    ]  # fmt: skip
    assert made(page, "streams") == ["old"]  # there are no figures of these
    report(results, page)
    assert page.read_text() == once


@pytest.mark.parametrize("marker", ["<!-- peers: made by benchmarks/report.py -->", "<!-- /peers -->"])
def test_a_missing_marker_is_named_and_nothing_is_written(results: Path, page: Path, marker: str) -> None:
    before = page.read_text().replace(marker, "")
    page.write_text(before)
    with pytest.raises(SystemExit, match=rf"^performance.md: the marker {marker} is there 0 times, not once$"):
        report(results, page)
    assert page.read_text() == before
    assert list((page.parent / "pictures").iterdir()) == []


def test_our_page_has_all_markers() -> None:
    text = PAGE.read_text()
    for name in SECTIONS:
        assert "made now" in between(text, name, "made now", PAGE)


def test_pictures_are_well_formed_name_the_contenders_and_are_the_same_bytes_twice(results: Path, page: Path) -> None:
    report(results, page)
    files = sorted((page.parent / "pictures").iterdir())
    assert [file.name for file in files] == ["clients.svg", "flame.svg", "latency.svg", "peers.svg"]
    first = {file: file.read_bytes() for file in files}
    words = {file.stem: {each.strip() for each in ElementTree.parse(file).getroot().itertext()} for file in files}
    assert words["clients"] >= {*CLIENTS, "0.75 (0.70–0.80)", "93,750"}
    assert words["peers"] >= {*PEERS, "0.0045 (0.0040–0.0050)"}
    assert words["latency"] >= {"confluent", "hop", "worker", "at_least_once", "exactly_once", "100 events/s", "25.0"}
    assert words["flame"] >= {"turn · worker/member/loop.py", "process · worker/engine/engine.py", "model step 25 %"}
    report(results, page)
    assert {file: file.read_bytes() for file in files} == first


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.78, 0.71, 0.87], "0.78 (0.71–0.87)"),
        ([0.0042, 0.05], "0.0271 (0.0042–0.0500)"),
        ([1.4], "1.40 (1.40–1.40)"),
        ([11.13, 12.2], "11.7 (11.1–12.2)"),
        ([261.0, 234.0], "247.5 (234.0–261.0)"),
    ],
)
def test_ratios_have_two_digits_at_least(values: list[float], said: str) -> None:
    assert ratio(values) == said


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("null, b, exactly_once", "null, b, exactly_once"),
        ("worker, b, exactly_once", "null, b, exactly_once"),
        ("worker, b, at_least_once", "null, b, at_least_once"),
        ("worker, a, exactly_once", "null, a, at_least_once"),  # the only one of this client
        ("something else", "first"),
    ],
)
def test_the_base_is_the_null_pipeline_of_the_same_client_and_delivery(name: str, base: str) -> None:
    names = ["first", "null, a, at_least_once", "null, b, at_least_once", "null, b, exactly_once", name]
    assert base_of(name, names) == base


def test_two_folders_side_by_side(tmp_path: Path) -> None:
    old = write(tmp_path / "old", keys=group({"a": [100.0, 110.0], "b": [100.0, 110.0], "gone": [1.0, 1.0]}))
    new = write(tmp_path / "new", keys=group({"a": [109.0, 121.0], "b": [150.0, 165.0]}), cores=group({"a": [1.0]}))
    lines = [line.split() for line in compare(old, new).splitlines()]
    assert lines == [
        ["keys", "old,", "events/s", "new,", "events/s", "new", "/", "old"],
        ["a", "105", "115", "1.10", "within", "the", "spread"],
        ["b", "105", "158", "1.50"],
    ]


def test_stages_add_up_to_the_whole() -> None:
    found = stages(parse(RAW), 50_000)
    assert {name: round(100 * each["share"]) for name, each in found.items()} == {
        "read from Kafka": 20, "decode": 15, "boundaries and waves": 10, "model step": 25, "encode": 12,
        "hand over to the producer": 9, "commit": 4, "metrics": 2, "rest": 3,
    }  # fmt: skip
    assert sum(each["share"] for each in found.values()) == pytest.approx(1)
    assert sum(each["us"] for each in found.values()) == pytest.approx(20)


def test_stacks_have_no_folders_of_this_machine_and_are_read_again_as_they_were() -> None:
    stacks = parse(RAW)
    text = collapsed(stacks)
    assert parse(text) == stacks
    assert all(f"({root}" not in text for root in ("/", "home", "opt", "usr"))
    assert "call (tensorflow/python/eager.py);inner (tensorflow/python/eager.py) 25" in text
    assert "labels (enum.py) 1" in text
    assert "<listcomp> (worker/pipeline/pipeline.py);decode (worker/codecs/decoding.py) 15" in text


def test_boxes_lie_below_their_callers_in_the_order_of_stages() -> None:
    found = boxes(parse(RAW))
    assert (found[0].name, found[0].left, found[0].width, found[0].stage) == ("turn", 0, 1, "rest")
    second = [(box.name, round(100 * box.left), round(100 * box.width)) for box in found if box.depth == 1]
    assert second == [("_poll", 0, 20), ("turn", 20, 62), ("_send", 82, 9), ("commit", 91, 5), ("turned", 96, 1)]
    assert [box.name for box in found if box.module.startswith("tensorflow")] == ["call"]  # the way in, no deeper
    assert {box.stage for box in found if box.name == "step"} == {"model step"}


def test_every_stage_is_told_by_its_innermost_frame() -> None:
    commit = [("worker/member/loop.py", "turn"), ("worker/member/loop.py", "commit")]
    assert stage_of(commit) == stage_of([*commit, ("worker/kafka/confluent/source.py", "commit")]) == "commit"
    assert stage_of([*commit, ("worker/member/reporter.py", "committed")]) == "metrics"
    assert stage_of(commit[:1]) == "rest"


def test_what_is_asked_stands_beside_what_was_found() -> None:
    null = "null, confluent, at_least_once"
    clients = group({null: [100, 100, 100], AT_LEAST_ONCE: [60, 80, 90], EXACTLY_ONCE: [54, 40, 45]})
    table = asked_table({"clients": clients, "latency": [latency(1_000, 1.0)]}).splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[1:] for row in found] == [
        ["≥ 0.75", "0.80 (0.60–0.90)", "reached"],
        ["≥ 0.8", "0.50 (0.50–0.90)", "**missed**"],
        ["≤ 3", "4.0 (4.0–4.0)", "**missed**"],
        ["≤ 10", "10.0 (8.0–12.0)", "reached"],
    ]


def test_a_null_pipeline_with_options_is_held_against_the_plain_one() -> None:
    plain, tuned = "null, confluent, at_least_once", "null, confluent, at_least_once, option=1"
    assert base_of(tuned, [plain, AT_LEAST_ONCE, tuned]) == base_of(AT_LEAST_ONCE, [plain, tuned]) == plain
