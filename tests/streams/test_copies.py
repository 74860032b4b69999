"""Memory set aside for copies: free again when nobody sees it, and never seen by two."""

from __future__ import annotations

import numpy as np

from worker.streams.copies import READY_BYTES, CopyArena

ROW = np.dtype([("number", np.int64), ("values", np.float32, (100,))], align=True)
READY_ROWS = READY_BYTES // ROW.itemsize


def test_memory_is_reused_once_nobody_sees_it() -> None:
    arena = CopyArena(1000, ROW)
    arena.ready(1)
    first = arena.take(600)
    address = first.ctypes.data
    del first
    assert arena.take(1000).ctypes.data == address


def test_memory_is_kept_by_any_view_of_a_view() -> None:
    arena = CopyArena(1000, ROW)
    arena.ready(1)
    whole = arena.take(1000)
    whole["values"], address = 7, whole.ctypes.data
    view = whole["values"][:, 10:16].reshape(1000, 3, 2)[500:]
    del whole
    arena.take(1000)["values"] = 8
    assert (view == 7).all()
    del view
    assert arena.take(1000).ctypes.data == address


def test_parts_in_use_are_left_alone_and_gaps_are_filled() -> None:
    arena = CopyArena(100, ROW)
    arena.ready(100)
    loans = [arena.take(30) for _ in range(3)]
    begin = loans[0].ctypes.data
    assert [loan.ctypes.data - begin for loan in loans] == [0, 30 * ROW.itemsize, 60 * ROW.itemsize]
    del loans[1]
    assert arena.take(31).ctypes.data - begin not in range(100 * ROW.itemsize)  # fits nowhere: memory of its own
    assert arena.take(30).ctypes.data - begin == 30 * ROW.itemsize


def test_only_what_was_asked_for_is_touched() -> None:
    arena = CopyArena(10 * READY_ROWS, ROW)
    held = [arena.take(5)]
    arena.ready(1)
    held += [arena.take(READY_ROWS), arena.take(2)]
    assert [np.shares_memory(loan, arena._memory) for loan in held] == [False, True, False]


def test_a_copy_of_no_rows_is_empty() -> None:
    assert len(CopyArena(1, ROW).take(0)) == 0


def test_rows_that_are_never_copied_take_no_memory() -> None:
    wide = np.dtype([("emitted", np.float64, (20_000,))])
    arena = CopyArena(10_000_000, wide)  # 1.6 TB, more than most machines would promise
    arena.ready(3)
    copy = arena.take(3)
    copy["emitted"] = 7.0
    assert copy.shape == (3,)
    assert arena.take(2)["emitted"].shape == (2, 20_000)
