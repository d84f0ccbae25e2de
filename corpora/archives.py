"""Files in uncompressed tar archives, read where they lie: nothing is unpacked."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from artifacts.errors import InputError
from corpora.manifest import Member

SUFFIX = ".tar"


def members(archive: Path) -> Iterator[tuple[str, Member]]:
    """Names and places of an archive's files, in its order. Only headers are read, and none is kept.

    Raises:
        InputError: No archive, a compressed one, one that ends too early, or a file with holes left out.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or they would add up to all of them
                if info.issparse():
                    raise InputError(f"{archive}: {info.name} is stored without its holes, expected whole files")
                if info.isreg():
                    yield info.name.removeprefix("./").lstrip("/"), Member(archive, info.offset_data, info.size)
    except tarfile.ReadError as error:
        raise InputError(f"{archive}: no uncompressed tar archive, or not a whole one ({error})") from None


class MemberFile(io.RawIOBase):
    """A file in an archive as one of its own, which reads no more than it is asked for.

    Raises:
        InputError: There is no such archive, or it ends before the file does.
    """

    def __init__(self, member: Member) -> None:
        try:
            self._archive = member.archive.open("rb", buffering=0)
        except FileNotFoundError:
            raise InputError(f"{member.archive}: no such file") from None
        self._start, self._size, self._position = member.byte_offset, member.byte_size, 0
        end, found = self._start + self._size, os.fstat(self._archive.fileno()).st_size
        if found < end:
            self._archive.close()
            raise InputError(f"{member.archive}: found {found:,} bytes, the manifest says a file ends at {end:,}")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte, counted from the file's start, from here or from the file's end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill a buffer, or as much of it as there is left of the file; gives the number of bytes."""
        wanted = memoryview(buffer)[: max(0, self._size - self._position)]
        self._archive.seek(self._start + self._position)
        count = self._archive.readinto(wanted) or 0
        self._position += count
        return count

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()
        super().close()
