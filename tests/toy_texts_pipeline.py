"""A worker that writes texts with a model whose states anyone can compute: records in, texts out, and what they say."""

from __future__ import annotations

import json
from typing import Any

from tests.engine.toy_texts import LAYOUT, UNITS, ToyDecoder
from tests.one_member import Cluster
from worker.codecs.copying import TRACES_ALONE, Repeated
from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import open_decoder
from worker.codecs.fields import InputFields
from worker.codecs.prompts import PromptFields
from worker.codecs.texts import TextEncoder
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.feedback import FeedbackEngine
from worker.engine.generation import Generation
from worker.pipeline.generation import GenerationPipeline
from worker.records.states import StateSpec
from worker.records.vocabulary import Vocabulary
from worker.streams.table import StreamTable

SPECS = [StateSpec("hash", "h", (1,), "float64")]
LONGEST = 1000
SEED = 7


def texts_pipeline(
    mode: Any = "every_event",
    rules: BoundaryRules | None = None,
    max_streams: int = 1000,
    model: ToyDecoder | None = None,
    repeated: Repeated = TRACES_ALONE,
    **fields: Any,
) -> GenerationPipeline:
    rules, model = rules or BoundaryRules(), model or ToyDecoder()
    table = StreamTable(LAYOUT, max_streams, model.units, rules.idle_ms, generates=True)
    vocabulary = Vocabulary("abcdefg"[:UNITS])
    asked = PromptFields("generate", LONGEST, 1.0, below=UNITS, vocabulary=vocabulary)
    return GenerationPipeline(
        decoder=open_decoder("json", InputFields(width=0, features=(), **fields), LAYOUT, asked, repeated),
        engine=FeedbackEngine(Generation(model, table, EmitRule(mode), SEED), rules),
        encoder=TextEncoder("json", "0123456789ab", vocabulary, True, repeated.headers),
        dead_letters=DeadLetters("g", "0123456789ab", "0.0"),
    )


def ask(length: int, text: str = "a", **more: Any) -> bytes:
    """A record's value: so many items are drawn after this text."""
    return json.dumps({"text": text, "length": length, **more}).encode()


def said(cluster: Cluster) -> list[tuple[Any, ...]]:
    """(partition, offset, item, everything but where the state came from) of each output, as written."""
    found = []
    for output in cluster.outputs():
        del output["origin"]
        source = output.pop("source")
        found.append((source["partition"], source["offset"], source.get("item", -1), json.dumps(output)))
    return found
