"""Files between HDF5 and the disk: HDF5 sees neither a write nor a read fail, and reads no damaged byte.

The reason: when the disk fills while it writes by itself, HDF5 ends the process with a segmentation fault, and a single
flipped bit in a file can make it read for ever. So errors are kept until HDF5 is done, and a file begins with a seal: a
block that HDF5 skips (its "user block") with size and CRC-32 of all that follows, verified before HDF5 opens the file.
HDF5's own message does not tell a file that could not be read from a damaged one; the kept error does.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

SEAL_BYTES = 512  # the smallest user block
SEAL = re.compile(rb"rnn-stream-worker checkpoint\n([0-9]+) bytes follow, crc32 ([0-9a-f]{8})\n\0*")
PIECE_BYTES = 1 << 22


class BrokenSealError(ValueError):
    """The file is not as it was written; the message says how."""


def seal_file(path: Path) -> None:
    """Writes the seal of a file as it is now. Raises OSError."""
    with path.open("r+b") as file:
        file.write(_seal(file))


def _seal(file: BinaryIO | SealedFile) -> bytes:
    """The seal of the file's content; leaves the position at its beginning."""
    file.seek(SEAL_BYTES)
    crc = size_bytes = 0
    while piece := file.read(PIECE_BYTES):
        crc = zlib.crc32(piece, crc)
        size_bytes += len(piece)
    file.seek(0)
    return (b"rnn-stream-worker checkpoint\n%d bytes follow, crc32 %08x\n" % (size_bytes, crc)).ljust(SEAL_BYTES, b"\0")


class _Positioned:
    """A descriptor with a position of its own and a size, as h5py asks of a Python file object."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._position = 0
        self._size = size

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

    def flush(self) -> None:
        """Nothing is buffered here."""


class SealedFile(_Positioned):
    """A file to read. ``error`` is the first error of the disk, even if it was swallowed since."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; BrokenSealError for anything but a regular file."""
        # So that opening a pipe does not wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise BrokenSealError("it is not a file")
        except BaseException:
            os.close(fd)
            raise
        super().__init__(fd, found.st_size)
        self.error: OSError | None = None

    @property
    def size_bytes(self) -> int:
        return self._size

    def check_seal(self) -> None:
        """Raises BrokenSealError, OSError."""
        self.seek(0)
        block = self.read(SEAL_BYTES)
        found = SEAL.fullmatch(block)
        if not block:
            raise BrokenSealError("it is empty")
        if found is None or len(block) < SEAL_BYTES:
            raise BrokenSealError("it is not a checkpoint, or its beginning is damaged")
        size_bytes = self._size - SEAL_BYTES
        if size_bytes != int(found[1]):
            raise BrokenSealError(f"it is truncated: it has {size_bytes} bytes of {int(found[1])}")
        if _seal(self) != block:
            raise BrokenSealError("it is damaged (checksum of the file)")

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer only at the end. Raises OSError."""
        pieces = bytearray(max(0, min(size, self._size - self._position)))
        self.readinto(memoryview(pieces))
        return bytes(pieces)

    def readinto(self, buffer: memoryview) -> int:
        """The whole buffer. Raises OSError, also where the file ends before that."""
        view = memoryview(buffer).cast("B")
        try:
            done = 0
            while done < len(view):
                piece = os.pread(self._fd, min(len(view) - done, PIECE_BYTES), self._position + done)
                if not piece:
                    raise OSError(errno.EIO, "it ends too early")
                view[done : done + len(piece)] = piece
                done += len(piece)
        except OSError as error:
            # Another object: the traceback of this one gets frames that hold what HDF5 has of this file, and a circle
            # through HDF5 is never collected; the process would end with a segmentation fault.
            self.error = self.error or OSError(*error.args)
            raise
        self._position += done
        return done


class SafeFile(_Positioned):
    """A new file that only its owner reads and writes, and whose errors wait until HDF5 is done."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; FileExistsError when the name is taken."""
        self._path = path
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o640), 0)
        self._error: OSError | None = None

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

    def settle(self) -> None:
        """Raises the first OSError there was; else seals the file and waits until the disk has all of it."""
        if self._error is not None:
            raise self._error
        seal_file(self._path)
        os.fsync(self._fd)
