"""Millions of texts in little memory: Arrow arrays behind the interface of a list of str."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_DECODED_AT_ONCE = 10_000


def pack(texts: Iterable[str]) -> pa.Array:
    """A chunk of packed texts; its memory is `.nbytes`."""
    return pa.array(texts, pa.large_string())


class PackedTexts(Sequence[str]):
    """A str takes 50 to 80 bytes besides its characters; here a text takes 8 besides its UTF-8."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self._array = pa.chunked_array(chunks, pa.large_string())

    @property
    def nbytes(self) -> int:
        return int(self._array.nbytes)

    def take(self, order: Sequence[int] | NDArray[np.int64]) -> PackedTexts:
        """The texts of these indices, in this order."""
        return PackedTexts(self._array.take(pa.array(order, pa.int64())).chunks)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _DECODED_AT_ONCE):
            yield from self._array.slice(start, _DECODED_AT_ONCE).to_pylist()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        picked = self._array[index]
        texts: str | list[str] = picked.to_pylist() if isinstance(index, slice) else picked.as_py()
        return texts
