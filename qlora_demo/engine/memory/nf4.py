"""Block-wise 4-bit quantization, to be looked at: NF4, FP4 and double quantization by bitsandbytes' own functions on
the CPU, and Int4, an even grid, beside them.

Not for running a model. Sources: Dettmers et al., QLoRA (arXiv 2305.14314), sections 2 and 3; bitsandbytes,
functional.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from bitsandbytes import functional
from numpy.typing import ArrayLike, NDArray

from ...core.memory_report import QuantizationError, StoredBytes
from .ledger import BLOCK_OF_CONSTANTS, BYTE_BOOK_BYTES, NF4_BOOK_BYTES, OFFSET_BYTES, packed_bytes

Kind = Literal["nf4", "fp4", "int4"]
Floats = NDArray[np.float32]
KINDS: tuple[Kind, ...] = ("nf4", "fp4", "int4")
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
# Symmetric: the 15 whole numbers from -7 to 7, evenly spaced; the sixteenth code stays unused.
INT4_STEPS = 7


@dataclass(frozen=True)
class Quantized:
    """A matrix in 4 bits: a code per weight (flat, row after row), and the matrix that a model computes with."""

    codes: NDArray[np.uint8]
    restored: Floats


def levels(kind: Kind) -> Floats:
    """The value of each code in units of its block's constant, between -1 and 1. NF4: quantiles of N(0, 1) with an
    exact zero (QLoRA, appendix E). FP4: sign, two bits of exponent, one of mantissa; zero is there twice.
    """
    if kind == "int4":
        return np.arange(-INT4_STEPS, INT4_STEPS + 1, dtype=np.float32) / np.float32(INT4_STEPS)
    values: Floats = functional.get_4bit_type(kind, device="cpu").numpy()
    return values


def quantize(weights: ArrayLike, kind: Kind = "nf4", block_size: int = 64, double: bool = False) -> Quantized:
    """The matrix in blocks, counted row after row and across the ends of rows; double: its constants quantized, too.
    Raises ValueError for weights that are not finite.
    """
    array = np.asarray(weights)
    absmax, scaled = scale(array, block_size)
    if kind == "int4":
        return _quantize_evenly(absmax, scaled, block_size, double, array.shape)
    # One long row: bitsandbytes 0.50's AVX512 kernel restores rows that are shorter than a block with other blocks'
    # constants.
    row = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32).reshape(1, -1))
    packed, state = functional.quantize_4bit(row, blocksize=block_size, quant_type=kind, compress_statistics=double)
    halves = packed.numpy().reshape(-1)
    codes = np.stack([halves >> 4, halves & 15], axis=1).reshape(-1)[: array.size]
    return Quantized(codes, functional.dequantize_4bit(packed, state).numpy().reshape(array.shape))


def scale(weights: ArrayLike, block_size: int) -> tuple[Floats, Floats]:
    """(absmax of each block, every weight divided by its block's absmax, flat). Raises ValueError."""
    flat = np.ascontiguousarray(weights, dtype=np.float32).reshape(-1)
    if block_size < 1:
        raise ValueError(f"a block holds at least one weight, not {block_size}")
    if not flat.size or not np.isfinite(flat).all():
        raise ValueError("only finite weights, and at least one, can be quantized")
    absmax = np.maximum.reduceat(np.abs(flat), np.arange(0, flat.size, block_size))
    largest = np.repeat(absmax, block_size)[: flat.size]
    return absmax, np.divide(flat, largest, out=np.zeros_like(flat), where=largest > 0)


def _quantize_evenly(
    absmax: Floats, scaled: Floats, block_size: int, double: bool, shape: tuple[int, ...]
) -> Quantized:
    """Int4, which bitsandbytes has not; its constants are quantized as theirs are."""
    steps = np.rint(scaled * INT4_STEPS)
    constants = restore_constants(absmax) if double else absmax
    restored = steps / np.float32(INT4_STEPS) * np.repeat(constants, block_size)[: scaled.size]
    return Quantized((steps + INT4_STEPS).astype(np.uint8), restored.astype(np.float32).reshape(shape))


def restore_constants(absmax: Floats) -> Floats:
    """Constants after double quantization: less their mean they are 8-bit codes in blocks of 256 (QLoRA, section 3)."""
    offset = torch.from_numpy(absmax).mean()
    codes, state = functional.quantize_blockwise(torch.from_numpy(absmax) - offset, blocksize=BLOCK_OF_CONSTANTS)
    restored: Floats = (functional.dequantize_blockwise(codes, state) + offset).numpy()
    return restored


def measure_error(weights: ArrayLike, restored: ArrayLike) -> QuantizationError:
    """The distance between weights and restored weights."""
    off = np.abs(np.asarray(weights, np.float64) - np.asarray(restored, np.float64))
    return QuantizationError(float(off.mean()), float(np.sqrt((off**2).mean())), float(off.max()))


def bits_of_constants(block_size: int, double: bool) -> float:
    """Bits of constants per weight: one float32 a block; doubly quantized one byte, and one float32 for 256 of
    those.
    """
    return (8 + 32 / BLOCK_OF_CONSTANTS) / block_size if double else 32 / block_size


def bits_per_weight(block_size: int, double: bool) -> float:
    """Four, and the constants' share. Tables (a kilobyte a layer) are not in it: see `stored_bytes`."""
    return 4 + bits_of_constants(block_size, double)


def stored_bytes(count: int, kind: Kind, block_size: int, double: bool) -> StoredBytes:
    """Every byte of a quantized matrix of `count` weights, as bitsandbytes keeps it; an even grid needs no table."""
    blocks = -(-count // block_size)
    constants = blocks + 4 * -(-blocks // BLOCK_OF_CONSTANTS) if double else 4 * blocks
    tables = (0 if kind == "int4" else NF4_BOOK_BYTES) + (BYTE_BOOK_BYTES + OFFSET_BYTES if double else 0)
    packed = packed_bytes(count, "nf4")
    return StoredBytes(packed, constants, tables, total=packed + constants + tables, fp16=2 * count)
