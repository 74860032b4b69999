"""The sections ``model`` and ``shadow``: the trained network, how its outputs are read, and a second one beside it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from worker.config.model_file import ModelFile
from worker.config.values import (
    Amount,
    Beams,
    Count,
    File,
    Item,
    Modules,
    Names,
    Section,
    Sha256,
    Share,
    Switch,
    TextLength,
    Topic,
    Vocabulary,
    WholeNumber,
)

CpuLevel: TypeAlias = Literal[
    "sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni", "avx512_core_bf16",
    "avx512_core_fp16", "avx512_core_amx",
]  # fmt: skip
Task: TypeAlias = Literal["score", "generate", "seq2seq"]


class EncoderDecoder(Section):
    """The two model files of an encoder-decoder pair."""

    encoder: ModelFile
    """File of the encoder, whose last outputs are its states."""
    decoder: ModelFile
    """File of the decoder: [x, *states] to [y, *states]."""


class Model(Section):
    """The trained network and how its outputs are read."""

    path: ModelFile | EncoderDecoder
    """Model file, .keras or legacy .h5, or a URL such as s3://bucket/model.keras#SHA256; task seq2seq: one training
    model, or {encoder: FILE, decoder: FILE}."""
    sha256: Sha256 | None = None
    """SHA-256 of the model file, 64 hex digits: any other file is refused before it is opened. Not for two files."""
    task: Task = "score"
    """score (a probability after each event), generate (text that continues the record's) or seq2seq (encoder and
    decoder: a text for each sequence)."""
    labels: Names | None = None
    """Names of the output units, in order."""
    window: Count | None = None
    """The model as it is on the last so many events of the sequence, instead of the streaming form."""
    window_fill: Literal["wait", "zeros"] = "wait"
    """Fewer events than the window: wait (no answer yet, no output) or zeros (before them)."""
    memory: Count | None = None
    """Steps that causal attention looks back over; its keys and values are the state."""
    every: Count = 1
    """With window: an answer for every n-th event of a sequence."""
    expect: File | None = None
    """Task score: file of `worker check --write-expect`: metrics tell the share of each feature beyond its range."""
    parity_tolerance: Amount = 1.0e-4
    """How far a streamed output may be from the original model's in the proof at start; beyond 1, by their size.

    Up to 1e-4 it is 1e-6 where Keras repeats float32 answers within 1 that exactly."""
    cpu_level: CpuLevel | None = None
    """Processor instructions that the model may use at most, for the same last digits on all workers; null: any."""
    imports: Modules = ()
    """Python modules to import before the file is opened: they define its custom classes and functions."""
    allow_lambda: Switch = False
    """Run Lambda layers, which are Python code inside the model file: only for files that you trust."""
    vocabulary: Vocabulary | None = None
    """Task generate: the items by id: a list, or the path of a list in JSON (.json) or of a text file, one per line."""
    source_vocabulary: Vocabulary | None = None
    """Task seq2seq: the encoder's items by id, as vocabulary; null: records hold tokens or vectors."""
    target_vocabulary: Vocabulary | None = None
    """Task seq2seq: the decoder's items by id, as vocabulary; null: outputs hold tokens only."""
    start: Item | None = None
    """Task seq2seq: the item (an id without a vocabulary) that decoding begins with."""
    stop: Item | None = None
    """Tasks generate and seq2seq: the item (an id without a vocabulary) that ends an output."""
    max_length: TextLength = 400
    """Tasks generate and seq2seq: items per output at most."""
    temperature: Amount = Field(default_factory=lambda data: 0.0 if data.get("task") == "seq2seq" else 1.0)
    """Tasks generate (left out: 1.0) and seq2seq (left out: 0): 0 takes the most likely item, more is more random."""
    top_k: Count | None = None
    """Tasks generate and seq2seq: draw from the k most likely items only."""
    top_p: Share | None = None
    """Tasks generate and seq2seq: draw from the most likely items that together have this probability."""
    seed: WholeNumber = 0
    """Tasks generate and seq2seq: the same seed, stream and input give the same text."""
    beams: Beams = 1
    """Task seq2seq: how many candidates decoding follows at a time."""
    unknown: str = "refuse"
    """Text outside the vocabulary: refuse (a dead letter), skip, or an item that takes its place."""


class Shadow(Section):
    """A second model on the same events, with its own states, into its own topic: a candidate, tried without risk."""

    path: ModelFile | None = None
    """Its file or URL, as model.path; null: no second model. Only for task score."""
    sha256: Sha256 | None = None
    """SHA-256 of its file, 64 hex digits."""
    topic: Topic | None = None
    """Topic for its outputs, which are not part of delivery: they are dropped rather than waited for."""
