"""Whatever happens to the members of a group that writes texts, and whenever: see ``test_faults_anywhere``.

Turns take a few steps, so texts are unfinished nearly always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.engine.toy_texts import ToyDecoder
from tests.one_member import command
from tests.toy_texts_pipeline import SPECS, ask, texts_pipeline
from tests.whole.test_faults_anywhere import GAP, RULES, check_story, scripts
from worker.engine.boundaries import BoundaryRules
from worker.pipeline.generation import GenerationPipeline
from worker.records.states import StateSpec

SEEDS = examples(100)  # stories per delivery
FEW_STEPS = 3  # of one turn
STOP, POISON = 5, 6

SHORT_AND_LONG = ((1, "a"), (9, ""), (25, "bc"))
# (key, value, headers): the streams are few, so that much happens to each.
MENU: list[Any] = [
    *[
        (key, ask(length, text, s="A"), None)
        for key in (b"a", b"b")
        for length, text in ((1, "a"), (9, ""), (25, "bc"))
    ],
    (b"a", ask(0, "abc", s="A"), None),
    (b"b", ask(5, "", s="A", temperature=0), None),
    *[(b"a", ask(4, "d", s=name), None) for name in ("A", "B")],
    (b"b", ask(7, "e", s="A", first=True), None),
    (b"a", ask(12, "", s="A", last=True), None),
    (b"c", ask(15, "a", s="A"), None),
    (b"a", ask(6, "ag", s="A"), None),  # poison, where the model has it
    (b"a", b"{", None),
    (b"a", None, None),
    (b"b", None, None),
    (b"a", b"", command(b"reset")),
    (b"a", b'{"states": {"hash": {"h": [100]}}}', command(b"set-state")),
    GAP,
]
records = st.tuples(st.integers(0, 1), st.sampled_from(MENU), st.sampled_from([0, 1, 5, 40, 90, -10]))


@dataclass(frozen=True)
class Texts:
    """What the group is configured with."""

    mode: str = "every_event"
    rules: BoundaryRules = RULES
    max_streams: int = 1000
    stop: int = -1
    poison: int = -1

    specs: ClassVar[list[StateSpec]] = SPECS

    def pipeline(self) -> GenerationPipeline:
        model = ToyDecoder(self.stop, self.poison)
        return texts_pipeline(self.mode, self.rules, self.max_streams, model, id="s", start="first", end="last")


setups = st.sampled_from(
    [
        Texts(),
        Texts("every_item"),
        Texts("every_item", stop=STOP),
        Texts("sequence_end"),
        Texts(max_streams=1),
        Texts("every_item", max_streams=2, poison=POISON),
        Texts(poison=POISON),
        Texts("every_item", replace(RULES, late="dead_letter", length=None)),
    ]
)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.feedback.STEPS_AT_ONCE", FEW_STEPS)


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
@settings(
    max_examples=SEEDS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(setups, st.lists(records, max_size=25), scripts, st.integers(0, 25), st.booleans(), st.booleans())
def test_nothing_that_happens_in_the_middle_of_texts_makes_a_difference(
    exactly_once: bool, setup: Texts, log: list[Any], script: list[Any], first: int, shared: bool, rebuild: bool
) -> None:
    check_story(setup, log, script, first, shared, rebuild, exactly_once)
