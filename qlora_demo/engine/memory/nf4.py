"""Block-wise 4-bit quantization in numpy, as bitsandbytes does it: NF4, FP4, Int4, and double quantization of the
constants.

For looking into it, not for running a model. Knows neither torch nor models. Sources: Dettmers et al., QLoRA (arXiv
2305.14314), sections 2 and 3, appendix E (the NF4 levels); bitsandbytes 0.50, functional.py (get_4bit_type,
create_dynamic_map, quantize_4bit) and backends/default/ops.py (the rounding), which codes, constants and restored
values equal bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["nf4", "fp4", "int4"]
Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
KINDS: tuple[Kind, ...] = ("nf4", "fp4", "int4")
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
BLOCK_OF_CONSTANTS = 256  # constants that share one second-level constant
LOOK_UP = 32767.5
SMALLEST = np.float32(1e-38)  # stands in for the constant of a block of zeros, which cannot be divided by

# Quantiles of N(0, 1), scaled to [-1, 1]: eight above zero, seven below, and an exact zero (QLoRA, appendix E).
NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
# Sign, two bits of exponent, one of mantissa (E2M1), in the order of bitsandbytes' bit patterns; zero is there twice.
FP4_LEVELS = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0, -0.0, -0.0625, -8.0, -12.0, -4.0, -6.0, -2.0, -3.0)
# Symmetric: the 15 whole numbers from -7 to 7, evenly spaced; the sixteenth code stays unused.
INT4_LEVELS = tuple(range(-7, 8))


@dataclass(frozen=True)
class Book:
    """A code book: `levels[code]` is the value of a code, between -1 and 1. `order` lists the codes by value."""

    kind: Kind
    levels: Floats
    order: Codes
    midpoints: Floats

    @property
    def stored_bytes(self) -> int:
        """Kept beside every layer: 16 float32. An even grid needs no table."""
        return 0 if self.kind == "int4" else 16 * 4

    @property
    def code_of_zero(self) -> np.uint8:
        return self.order[np.searchsorted(self.midpoints, np.float32(0), side="left")]


def _book(kind: Kind, values: tuple[float, ...]) -> Book:
    levels = np.array(values, np.float32)
    levels /= np.abs(levels).max()
    order = np.argsort(levels, kind="stable").astype(np.uint8)
    ascending = levels[order]
    return Book(kind, levels, order, (ascending[:-1] + ascending[1:]) / np.float32(2))


BOOKS: dict[Kind, Book] = {
    "nf4": _book("nf4", NF4_LEVELS),
    "fp4": _book("fp4", FP4_LEVELS),
    "int4": _book("int4", INT4_LEVELS),
}


@dataclass(frozen=True)
class Quantized:
    """A tensor as codes and one constant (absmax) for each block of `block_size` weights; the last block may be
    shorter.
    """

    kind: Kind
    block_size: int
    shape: tuple[int, ...]
    codes: Codes
    absmax: Floats


@dataclass(frozen=True)
class QuantizedConstants:
    """Constants quantized themselves: 8-bit codes of (absmax - offset), and one float32 for each block of 256 of
    them.
    """

    codes: Codes
    absmax: Floats
    offset: np.float32
    levels: Floats


class Error(NamedTuple):
    """How far restored weights are from the original: mean absolute, root mean square, largest."""

    mean_absolute: float
    root_mean_square: float
    largest: float


class StoredBytes(NamedTuple):
    """What a quantized matrix takes: two codes a byte, its constants, its tables (code books and offset)."""

    packed: int
    constants: int
    tables: int

    @property
    def total(self) -> int:
        return self.packed + self.constants + self.tables


def quantize(weights: ArrayLike, kind: Kind = "nf4", block_size: int = 64) -> Quantized:
    """The tensor in blocks, counted row after row and across the ends of rows. Raises ValueError for weights that are
    not finite.
    """
    array = np.asarray(weights)
    absmax, scaled = scale(array, block_size)
    book = BOOKS[kind]
    # side="left": a value that lies on a midpoint takes the lower level, as torch.bucketize has it.
    codes = book.order[np.searchsorted(book.midpoints, scaled, side="left")]
    return Quantized(kind, block_size, array.shape, codes, absmax)


def restore(quantized: Quantized, absmax: Floats | None = None) -> Floats:
    """The weights that a model computes with: level times constant. `absmax`: other constants, such as doubly quantized
    ones.
    """
    constants = quantized.absmax if absmax is None else absmax
    values = BOOKS[quantized.kind].levels[quantized.codes]
    return (values * per_weight(constants, quantized.block_size, values.size)).reshape(quantized.shape)


def scale(weights: ArrayLike, block_size: int) -> tuple[Floats, Floats]:
    """(absmax of each block, every weight divided by its block's absmax, flat). Raises ValueError."""
    flat = np.ascontiguousarray(weights, dtype=np.float32).reshape(-1)
    if block_size < 1:
        raise ValueError(f"a block holds at least one weight, not {block_size}")
    if not flat.size or not np.isfinite(flat).all():
        raise ValueError("only finite weights, and at least one, can be quantized")
    full = flat.size // block_size * block_size
    blocks, rest = flat[:full].reshape(-1, block_size), flat[full:]
    absmax = np.abs(blocks).max(axis=1)
    # bitsandbytes multiplies by the reciprocal in whole blocks and divides in the last, partial one: the last bit
    # differs.
    scaled = (blocks * (np.float32(1) / np.maximum(absmax, SMALLEST))[:, None]).reshape(-1)
    if rest.size:
        largest = np.maximum(np.abs(rest).max(), SMALLEST)
        absmax, scaled = np.append(absmax, largest), np.append(scaled, rest / largest)
    return absmax, np.clip(scaled, -1, 1)


def per_weight(constants: Floats, block_size: int, count: int) -> Floats:
    """Each block's constant, once for each of its weights."""
    return np.repeat(constants, block_size)[:count]


def pack(quantized: Quantized) -> Codes:
    """Two codes a byte, the first in the upper half; an odd number is filled up with the code of zero."""
    codes = quantized.codes
    if codes.size % 2:
        codes = np.append(codes, BOOKS[quantized.kind].code_of_zero)
    return cast(Codes, (codes[::2] << 4) | codes[1::2])


def unpack(packed: Codes, count: int) -> Codes:
    """The first `count` codes of packed bytes."""
    return np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:count]


# --- double quantization ----------------------------------------------------------------------------------------------


def dynamic_map() -> Floats:
    """The 256 levels of bitsandbytes' signed 8-bit data type: seven decades, each with twice the levels of the one
    below.

    (Dettmers, 8-Bit Approximations for Parallelism in Deep Learning, arXiv 1511.04561; functional.py,
    create_dynamic_map.)"""
    levels = [0.0, 1.0]
    for exponent in range(7):
        edges = _linspace(2**exponent + 1)
        means = np.float32(10.0 ** (exponent - 6)) * ((edges[:-1] + edges[1:]) / np.float32(2))
        levels += [*means.tolist(), *(-means).tolist()]
    return np.sort(np.array(levels, np.float32))


def _linspace(count: int) -> Floats:
    """From 0.1 to 1 as torch.linspace counts: up from the start in the first half, down from the end in the second."""
    start, end = np.float32(0.1), np.float32(1)
    step = np.float64((end - start) / np.float32(count - 1))
    place = np.arange(count)
    return np.where(place < count // 2, start + step * place, end - step * (count - 1 - place)).astype(np.float32)


def quantize_constants(absmax: Floats) -> QuantizedConstants:
    """Double quantization: the mean is taken off, the rest becomes 8-bit codes in blocks of 256 (QLoRA, section 3).

    bitsandbytes' own codes may differ by one level in a few of a thousand, since the mean is torch's there.
    """
    offset = absmax.mean(dtype=np.float32)
    second, scaled = scale(absmax - offset, BLOCK_OF_CONSTANTS)
    levels = dynamic_map()
    midpoints = (levels[:-1] + levels[1:]) / np.float32(2)
    # bitsandbytes' CPU kernel looks the code up in a table of 65,536 steps, so it is not always the nearest.
    steps = np.floor((scaled + np.float32(1)) * np.float32(LOOK_UP) + np.float32(0.5)) / LOOK_UP - 1
    return QuantizedConstants(
        np.searchsorted(midpoints.astype(np.float64), steps).astype(np.uint8), second, offset, levels
    )


def restore_constants(constants: QuantizedConstants) -> Floats:
    """The constants as a model uses them."""
    values = constants.levels[constants.codes]
    return values * per_weight(constants.absmax, BLOCK_OF_CONSTANTS, values.size) + constants.offset


# --- what it costs ----------------------------------------------------------------------------------------------------


def measure_error(weights: ArrayLike, restored: ArrayLike) -> Error:
    """The distance between weights and restored weights."""
    off = np.abs(np.asarray(weights, np.float64) - np.asarray(restored, np.float64))
    return Error(float(off.mean()), float(np.sqrt((off**2).mean())), float(off.max()))


def bits_of_constants(block_size: int, double: bool) -> float:
    """Bits of constants a weight: one float32 a block; doubly quantized one byte, and one float32 for 256 of those."""
    return (8 + 32 / BLOCK_OF_CONSTANTS) / block_size if double else 32 / block_size


def bits_per_weight(block_size: int, double: bool) -> float:
    """Four, and the constants' share. Tables (a kilobyte a layer) are not in it: see `stored_bytes`."""
    return 4 + bits_of_constants(block_size, double)


def stored_bytes(count: int, kind: Kind, block_size: int, double: bool) -> StoredBytes:
    """Every byte of a quantized matrix of `count` weights, as bitsandbytes keeps it."""
    blocks = -(-count // block_size)
    constants = blocks + 4 * -(-blocks // BLOCK_OF_CONSTANTS) if double else 4 * blocks
    return StoredBytes(-(-count // 2), constants, BOOKS[kind].stored_bytes + (256 * 4 + 4 if double else 0))
