"""Blocks of pages that are no story to be run from top to bottom: each is still what the program takes or says."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import yaml

from tests.one_member import Cluster, Member
from worker.commands.handover.command import _text
from worker.commands.handover.handing_over import Handed, HandedPartition
from worker.config.sections import Config
from worker.logs import _Json
from worker.records.ownership import Partition

DOCS = Path(__file__).parents[2] / "docs"
WHOLE: dict[str, dict[str, object]] = {
    "input": {"topic": "readings", "features": ["ax"]},
    "output": {"topic": "out"},
    "model": {"path": "m.keras"},
}
PARTS = ["rollout", "connecting", "reliability"]


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "part"), [(page, part) for page in PARTS for part in blocks(page, "yaml")], ids=lambda text: text[:20]
)
def test_parts_of_a_configuration_are_accepted(page: str, part: str) -> None:
    given = yaml.safe_load(part)
    merged = {**WHOLE, **{name: {**WHOLE.get(name, {}), **keys} for name, keys in given.items()}}
    Config.model_validate(merged)


def test_the_report_of_a_handover_is_the_one_that_is_shown() -> None:
    (shown,) = [text for text in blocks("rollout", "") if "begins where" in text]
    partitions = [
        HandedPartition(Partition("readings", number), offset, f"checkpoint at {offset:,}")
        for number, offset in enumerate((41_210, 39_877))
    ]
    found = Handed(partitions, (), "4f1c9a2b7d10", "go on in 2 of 2 partitions", dry_run=False)
    assert _text(found, "doors-blue", "doors-green").split() == shown.split()


def test_the_line_of_a_refused_record_is_the_one_that_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shown,) = blocks("logs-and-traces", "json")
    member = Member(Cluster(tmp_path, [(1, b"watch-07", b"{}")]))
    with caplog.at_level(logging.WARNING):
        member.drain()
    (line,) = [record for record in caplog.records if record.getMessage().startswith("record refused")]
    told, wanted = json.loads(_Json().format(line)), json.loads(shown)
    assert list(told) == list(wanted)
    for of_this_run, of_the_page in (("in/1 offset 0", "readings/2 offset 81042"), ("'x'", "'ax'")):
        told["message"] = told["message"].replace(of_this_run, of_the_page)
    differ = {"time", "topic", "partition", "offset"}
    assert {name: told[name] for name in told.keys() - differ} == {
        name: wanted[name] for name in wanted.keys() - differ
    }
