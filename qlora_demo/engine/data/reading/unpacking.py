"""The bytes of a file, also of one inside a .gz or .zip, in blocks and within limits.

Nothing is ever extracted to a path that an archive names. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import gzip
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ....core.errors import DataError
from ....core.format import size

BLOCK_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 4 << 30
# A few short reviews, repeated, pack to a hundredth and less: the ratio is checked for large files only.
RATIO_FROM_BYTES = 256 << 20
MAX_RATIO = 200
MAX_DIRECTORY_BYTES = 1 << 16  # of a zip's list of files: one file needs a hundred

_GZ, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_OTHERS = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"SQLite format 3": "a database",
    b"\xd0\xcf\x11\xe0": "an Excel or Word file",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"BZh": "a bz2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zst archive",
    b"\x7fELF": "a program",
    b"ORC": "an ORC file",
}


@dataclass(frozen=True)
class Packed:
    """A file as it lies on the disk. packing: "", "gz" or "zip"; name: what the file inside is called."""

    path: Path
    packing: str
    name: str

    def head(self, count: int) -> bytes:
        """The first `count` bytes, fewer where the file is shorter. Raises DataError."""
        start = b""
        for block in self.blocks():
            start += block
            if len(start) >= count:
                break
        return start[:count]

    def blocks(self) -> Iterator[bytes]:
        """The unpacked bytes. Raises DataError for what is damaged, needs a password, or unpacks to more than the
        limits.
        """
        total, filename = 0, self.path.name
        try:
            on_disk = self.path.stat().st_size
            with self._open() as stream:
                while block := stream.read(BLOCK_BYTES):
                    total += len(block)
                    if self.packing:
                        self._refuse_bomb(total, on_disk)
                    yield block
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile):
                raise DataError(f"{filename} is a damaged .gz file ({error}); pack it again.") from None
            raise DataError(f"{filename} cannot be read: {error.strerror or 'input or output error'}.") from None
        except (
            zlib.error,
            struct.error,
            EOFError,
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            detail = str(error)[:80]
            raise DataError(f"{filename} is a damaged .{self.packing} file ({detail}); pack it again.") from None

    def seekable(self) -> IO[bytes]:
        """The unpacked file as one that can be sought in: itself, or a copy without a name. Raises DataError."""
        if not self.packing:
            return self.path.open("rb")
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - handed to the caller
        for block in self.blocks():
            copy.write(block)
        copy.seek(0)
        return copy

    def _open(self) -> IO[bytes]:
        if self.packing == "gz":
            return gzip.open(self.path)  # type: ignore[return-value]
        return zipfile.ZipFile(self.path).open(self.name) if self.packing == "zip" else self.path.open("rb")

    def _refuse_bomb(self, total: int, on_disk: int) -> None:
        if total > MAX_UNPACKED_BYTES or (total > RATIO_FROM_BYTES and total > MAX_RATIO * on_disk):
            raise DataError(
                f"{self.path.name} ({size(on_disk)}) unpacks to more than {size(total)}: that is taken for a bomb;"
                " unpack it yourself."
            )


def detect_packing(path: Path) -> Packed:
    """What `path` is: plain, or packed. Raises DataError for a folder, an empty file, archives of several files, and
    known other kinds.
    """
    if path.is_dir():
        raise DataError(f"{path.name or path} is a folder; give a file.")
    plain = Packed(path, "", path.name)
    head = plain.head(16)
    if not head:
        raise DataError(f"{path.name} is empty: it holds no reviews; give a file with a text and a label in each row.")
    packed = plain
    if head.startswith(_GZ):
        packed = Packed(path, "gz", path.name.removesuffix(".gz"))
    elif head.startswith(_ZIP):
        packed = Packed(path, "zip", _only_member(path))
    inner = packed.head(16) if packed.packing else head
    if not inner:
        raise DataError(f"{path.name} holds an empty file; give one with a text and a label in each row.")
    if packed.packing and inner.startswith((_GZ, *_ZIP)):
        raise DataError(f"{path.name} is packed twice; unpack it once.")
    for magic, words in _OTHERS.items():
        if inner.startswith(magic):
            raise DataError(f"{path.name} is {words}; give a .csv, .tsv, .json, .jsonl or .parquet file.")
    return packed


def _only_member(path: Path) -> str:
    """The name of the one file in a zip. Its list of files is measured before it is read: a list can be a bomb, too."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end < 0 or len(tail) < end + 22:
        raise DataError(f"{path.name} is a damaged .zip file (its end is missing); pack it again.")
    if directory > MAX_DIRECTORY_BYTES:
        raise DataError(f"{path.name} holds many files; give a .zip of exactly one.")
    try:
        with zipfile.ZipFile(path) as archive:
            every = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path.name} is a damaged .zip file ({str(error)[:80]}); pack it again.") from None
    if any(info.filename in ("xl/workbook.xml", "content.xml", "word/document.xml") for info in every):
        raise DataError(f"{path.name} is a spreadsheet or document of an office program; save the sheet as CSV.")
    # What macOS adds to every archive.
    members = [
        info for info in every if not info.filename.startswith("__MACOSX/") and not info.filename.endswith(".DS_Store")
    ]
    if len(members) != 1:
        raise DataError(f"{path.name} holds {len(members)} files; give a .zip of exactly one.")
    info = members[0]
    name = info.orig_filename
    if name.startswith(("/", "\\")) or ":" in name or "\0" in name or ".." in name.replace("\\", "/").split("/"):
        raise DataError(
            f"{path.name} holds a file with a path that leads elsewhere ({name[:60]!r}); pack it again by its name"
            " alone."
        )
    if info.flag_bits & 1:
        raise DataError(f"{path.name} is locked with a password; give it without one.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{path.name} is packed in an unusual way (method {info.compress_type}); pack it again as a plain .zip."
        )
    return info.filename
