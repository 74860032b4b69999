"""The level of the processor's instructions: what is read of it, against what oneDNN itself says and does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.command_line import Ended, written
from worker.config.model import CpuLevel
from worker.errors import ConfigError
from worker.processor import VARIABLES, X86, cpu_level, level_of, pin_cpu_level

AVX512 = "avx512f avx512bw avx512vl avx512dq"
MACHINES = {
    "a processor of 2010": ("x86_64", "sse2 sse4_1 sse4_2", 0, "sse41"),
    "Sandy Bridge": ("x86_64", "sse4_1 avx", 0, "avx"),
    "Haswell, Zen": ("x86_64", "sse4_1 avx avx2 fma", 0, "avx2"),
    "Alder Lake": ("x86_64", "sse4_1 avx avx2 avx_vnni", 0, "avx2_vnni"),
    "Skylake": ("AMD64".lower(), f"sse4_1 avx avx2 {AVX512}", 0, "avx512_core"),
    "Cascade Lake": ("x86_64", f"sse4_1 avx avx2 {AVX512} avx512_vnni", 0, "avx512_core_vnni"),
    "Zen 4": ("x86_64", f"sse4_1 avx avx2 {AVX512} avx512_vnni avx512_bf16", 0, "avx512_core_bf16"),
    "Sapphire Rapids": (
        "x86_64", f"sse4_1 avx avx2 avx_vnni {AVX512} avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16",
        0, "avx512_core_amx",
    ),
    "half of AVX-512": ("x86_64", "sse4_1 avx avx2 avx512f avx512vl", 0, "avx2"),
    "x86 that tells nothing": ("x86_64", "", 0, "x86_64"),
    "Graviton 2": ("aarch64", "fp asimd", 0, "asimd"),
    "Graviton 3": ("aarch64", "fp asimd sve", 256, "sve_256"),
    "A64FX": ("aarch64", "fp asimd sve", 512, "sve_512"),
    "Apple": ("arm64", "", 0, "asimd"),
    "another one": ("ppc64le", "", 0, "ppc64le"),
    "none": ("", "", 0, "unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_levels_of_machines(name: str) -> None:
    machine, flags, sve_bits, wanted = MACHINES[name]
    assert level_of(machine, frozenset(flags.split()), sve_bits) == wanted


@pytest.mark.parametrize(
    ("pinned", "wanted"),
    [
        ("avx2", "avx2"),
        ("avx2_vnni", "avx2_vnni"),
        ("avx512_core", "avx512_core"),
        ("avx512_core_vnni", "avx512_core_vnni"),
        ("sse41", "sse41"),
        ("all", "avx512_core_amx"),
        ("nonsense", "avx512_core_amx"),
    ],
)
def test_a_pinned_level_is_the_highest(pinned: str, wanted: str) -> None:
    machine, flags, _, _ = MACHINES["Sapphire Rapids"]
    assert level_of(machine, frozenset(flags.split()), 0, pinned) == wanted
    assert level_of("x86_64", frozenset(["sse4_1", "avx"]), 0, pinned) == ("sse41" if pinned == "sse41" else "avx")


def test_the_configuration_takes_the_levels_that_are_known() -> None:
    assert get_args(CpuLevel) == tuple(X86)


def test_pinning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    environ: dict[str, str] = {}
    pin_cpu_level(None, environ)
    assert environ == {}
    pin_cpu_level("avx2", environ)
    assert environ == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    pin_cpu_level("avx2", environ)
    for name in VARIABLES:
        with pytest.raises(ConfigError, match=rf"^model.cpu_level: avx2, but the environment says {name}=AVX; remove"):
            pin_cpu_level("avx2", {name: "AVX"})
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    with pytest.raises(ConfigError, match="TensorFlow is loaded already; set ONEDNN_MAX_CPU_ISA=AVX2 in the envi"):
        pin_cpu_level("avx2", {})


# What oneDNN says of each level in its log, when it is asked to write one.
SAID = {
    "sse41": "Intel SSE4.1",
    "avx": "Intel AVX",
    "avx2": "Intel AVX2",
    "avx2_vnni": "Intel AVX2 with Intel DL Boost",
    "avx512_core": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "avx512_core_vnni": "Intel AVX-512 with Intel DL Boost",
    "avx512_core_bf16": "Intel AVX-512 with Intel DL Boost and bfloat16 support",
    "avx512_core_fp16": "Intel AVX-512 with float16, Intel DL Boost and bfloat16 support",
    "avx512_core_amx": (
        "Intel AVX-512 with float16, Intel DL Boost and bfloat16 support and Intel AMX with bfloat16 and 8-bit integer "
        "support"
    ),
}
STEPS = """
import hashlib, json
import numpy as np
from worker.model.backend import keras
from worker.model.streaming import StreamingModel
from worker.processor import cpu_level
keras.utils.set_random_seed(1)
x = keras.Input((None, 8))
y = keras.layers.Dense(4, activation="softmax")(keras.layers.GRU(64, return_sequences=True)(x))
model = StreamingModel(keras.Model(x, y))
packed = np.repeat(model.initial_row[np.newaxis], 64, 0)
digest = hashlib.sha256()
for vectors in np.random.default_rng(0).standard_normal((50, 64, 8)).astype(np.float32):
    answers, packed = model.step_packed(vectors, packed)
    digest.update(answers.tobytes())
print(json.dumps([cpu_level(), digest.hexdigest()]))
"""


@cache
def steps(level: str) -> tuple[str, str, str]:
    """(the level as read here, as oneDNN says it, digest of the outputs) of a process with this level pinned."""
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environ |= {"ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": level}
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=environ, capture_output=True, text=True, timeout=600, check=True
    )
    told = re.search(r"^onednn_verbose.*,cpu,isa:(.*)$", done.stdout, re.M)
    read, digest = json.loads(done.stdout.splitlines()[-1])
    return read, told[1].strip() if told else "", digest


@pytest.mark.parametrize("level", ["", "sse41", "avx2"])
def test_what_is_read_is_what_onednn_uses(level: str) -> None:
    read, told, _ = steps(level)
    assert told == SAID.get(read, told)
    assert read in (level or read, cpu_level({}))


def test_a_pinned_level_gives_the_digits_of_a_processor_that_has_no_other() -> None:
    """Here only: nobody can lend this test another processor."""
    if cpu_level({}) not in list(X86)[list(X86).index("avx2") :]:
        pytest.skip("this processor has no two levels of those")
    assert steps("sse41")[2] != steps("avx2")[2]
    assert steps("avx2") == steps.__wrapped__("avx2")


def test_a_configuration_pins_the_level_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    if "avx2" not in X86 or level_of("x86_64", frozenset(), 0) == cpu_level({}):
        pytest.skip("no processor of x86")
    program = (
        "import sys\nfrom pathlib import Path\nfrom worker.commands.options import read_config\n"
        "read_config(Path(sys.argv[1]))\nassert 'tensorflow' not in sys.modules\n"
    )
    file = written(tmp_path, model__cpu_level="sse41")
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program + STEPS, file],
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    read, digest = json.loads(done.stdout.splitlines()[-1])
    assert (read, digest) == ("sse41", steps("sse41")[2])


def test_levels_that_do_not_exist_and_that_contradict_are_refused(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: Ended = command("check", "-c", written(tmp_path, model__cpu_level="avx3"))
    assert ended.status == 2
    assert "model.cpu_level" in ended.err
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX")
    file = written(tmp_path, model__cpu_level="avx2")
    ended = command("check", "-c", file)
    said = "model.cpu_level: avx2, but the environment says ONEDNN_MAX_CPU_ISA=AVX; remove one of the two"
    assert (ended.status, ended.err) == (2, f"worker: {file}: {said}\n")
