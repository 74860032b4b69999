"""A file for HDF5 to write into that never fails; the error is kept and raised when HDF5 is done.

Why: HDF5 crashes the process (segmentation fault at close) when the disk fills while it writes by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self


class SafeFile:
    """What h5py asks of a Python file object, on a new file that only its owner reads and writes."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; FileExistsError when the name is taken."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o640)
        self._position = 0
        self._size = 0
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        try:
            done = 0
            while done < len(view) and self._error is None:
                done += os.pwrite(self._fd, view[done:], self._position + done)
        except OSError as error:
            self._error = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._position if size < 0 else size
        try:
            data = os.pread(self._fd, wanted, self._position)
        except OSError as error:
            self._error = self._error or error
            data = b""
        self._position += wanted
        return data.ljust(wanted, b"\0")

    def readinto(self, buffer: memoryview) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = self.read(len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._error = self._error or error
        return self._size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def settle(self) -> None:
        """Raises the first OSError there was, else waits until the disk has everything."""
        if self._error is not None:
            raise self._error
        os.fsync(self._fd)
