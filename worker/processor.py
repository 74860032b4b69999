"""Which processor instructions TensorFlow's kernels use: their level, as oneDNN names it, and how to pin one.

oneDNN makes its kernels for the processor it runs on, and another kernel adds up in another order: the last digits of
an output depend on the level. It reads the level to stop at from the environment, once, so that a level must be pinned
before TensorFlow is loaded.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from worker.errors import ConfigError

VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the first that is set counts
CPUINFO = Path("/proc/cpuinfo")
SVE_BYTES = Path("/proc/sys/abi/sve_default_vector_length")

_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
# Level → (its bits: a level is allowed where the pinned one has all of them; what it needs beside the bits below it, as
# Linux names it). Lowest first.
X86: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "sse41": (0x1, ("sse4_1",)),
    "avx": (0x3, ("avx",)),
    "avx2": (0x7, ("avx2",)),
    "avx2_vnni": (0xF, ("avx2", "avx_vnni")),
    "avx2_vnni_2": (0x1F, ("avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert")),
    "avx512_core": (0x27, _AVX512),
    "avx512_core_vnni": (0x67, (*_AVX512, "avx512_vnni")),
    "avx512_core_bf16": (0xE7, (*_AVX512, "avx512_vnni", "avx512_bf16")),
    "avx512_core_fp16": (0x1EF, (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni")),
    "avx512_core_amx": (
        0xFEF,
        (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"),
    ),
}
ALIASES = {"avx10_1_512": "avx512_core_fp16", "avx10_1_512_amx": "avx512_core_amx"}
SVE_BITS = (128, 256, 512)


def cpu_level(environ: Mapping[str, str] = os.environ) -> str:
    """The level that kernels use here, of x86 or ARM; where it is not known, the machine's kind (``x86_64``)."""
    sve_bits = 0
    with suppress(OSError, ValueError):  # not ARM, or ARM without them
        sve_bits = 8 * int(SVE_BYTES.read_text())
    return level_of(platform.machine().lower(), _flags(), sve_bits, _pinned(environ))


def level_of(machine: str, flags: frozenset[str], sve_bits: int, pinned: str = "") -> str:
    """The level of a machine with these flags; a pinned level that is not known allows every level, as for oneDNN."""
    if machine in ("aarch64", "arm64"):
        wide = [bits for bits in SVE_BITS if "sve" in flags and bits <= sve_bits]
        return f"sve_{wide[-1]}" if wide else "asimd"
    allowed = X86[pinned][0] if pinned in X86 else ~0
    found = [name for name, (bits, needed) in X86.items() if flags.issuperset(needed) and not bits & ~allowed]
    return found[-1] if found else machine or "unknown"


def pin_cpu_level(level: str | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """Kernels will use nothing above this level once TensorFlow is loaded. Raises ConfigError where impossible."""
    if level is None or _pinned(environ) == level:
        return
    for name in VARIABLES:
        if environ.get(name):
            raise ConfigError(
                f"model.cpu_level: {level}, but the environment says {name}={environ[name]}; remove one of the two"
            )
    if "tensorflow" in sys.modules:
        raise ConfigError(
            f"model.cpu_level: TensorFlow is loaded already; set {VARIABLES[0]}={level.upper()} in the environment"
        )
    environ[VARIABLES[0]] = level.upper()


def _pinned(environ: Mapping[str, str]) -> str:
    said = next((environ[name].lower() for name in VARIABLES if environ.get(name)), "")
    return ALIASES.get(said, said)


def _flags() -> frozenset[str]:
    """The flags that Linux gives for the first processor; nothing elsewhere."""
    with suppress(OSError), CPUINFO.open() as lines:
        for line in lines:
            name, _, values = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                return frozenset(values.split())
    return frozenset()
