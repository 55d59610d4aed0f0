"""Quantization as the Learn tab shows it: the levels, what each type loses on real and made-up weights, and the sums of
its bytes. NF4 and FP4 are bitsandbytes' own; no model is loaded."""

from __future__ import annotations

from statistics import NormalDist

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch

from qlora_demo.engine.memory import ledger, nf4


def normal(*shape: int, seed: int = 0) -> nf4.Floats:
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)


def with_outlier(*shape: int) -> nf4.Floats:
    weights = normal(*shape)
    weights.reshape(-1)[7] = 40
    return weights


def mixed() -> nf4.Floats:
    """Blocks of zeros, of one value, of the smallest numbers, and ordinary ones beside each other, the last one partial
    and zero."""
    blocks = [np.zeros(64), np.full(64, 0.25), np.full(64, -3e-39), np.full(64, 1e-42), normal(64), np.zeros(31)]
    return np.concatenate(blocks)[None].astype(np.float32)


WEIGHTS = {
    "random": normal(256, 128),
    "odd": normal(37, 53),
    "shorter than a block": normal(1, 19),
    "zero": np.zeros((64, 64), np.float32),
    "outlier, partial": with_outlier(33, 65),
    "tiny and zero blocks": mixed(),
}


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", nf4.KINDS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_is_its_level_times_its_blocks_constant(name: str, kind: nf4.Kind, double: bool) -> None:
    """Whatever the rows' lengths; with double quantization by the restored constant."""
    weights = WEIGHTS[name]
    ours = nf4.quantize(weights, kind, 64, double)
    absmax, scaled = nf4.scale(weights, 64)
    constants = nf4.restore_constants(absmax) if double else absmax
    expected = nf4.levels(kind)[ours.codes] * np.repeat(constants, 64)[: weights.size]
    np.testing.assert_allclose(ours.restored.reshape(-1), expected, rtol=2e-6, atol=1e-7 if double else 1e-30)
    # Each weight takes the nearest level; a block of numbers too small to divide by counts as zero.
    nearest = np.abs(scaled[:, None] - np.unique(nf4.levels(kind))).min(axis=1)
    usual = np.repeat(absmax, 64)[: weights.size] > 1e-37
    np.testing.assert_allclose(np.abs(scaled - nf4.levels(kind)[ours.codes])[usual], nearest[usual], atol=1e-6)


@pytest.mark.parametrize("block_size", nf4.BLOCK_SIZES)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_every_block_size_as_bitsandbytes_restores_it(kind: nf4.Kind, block_size: int) -> None:
    weights = normal(32, 4096, seed=block_size)
    for double in (False, True):
        packed, state = bnb.quantize_4bit(
            torch.from_numpy(weights), blocksize=block_size, quant_type=kind, compress_statistics=double
        )
        theirs = bnb.dequantize_4bit(packed, state).numpy()
        assert np.array_equal(nf4.quantize(weights, kind, block_size, double).restored, theirs)


def test_nf4_levels_are_quantiles_of_the_normal_distribution() -> None:
    """QLoRA, appendix E: eight quantiles above zero, seven below, between 0.5 and 0.9677083; zero; scaled to 1."""
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
    levels = np.sort([*above, 0.0, *below]) / max(above)
    np.testing.assert_allclose(nf4.levels("nf4"), levels, atol=2e-7)
    assert nf4.levels("nf4")[7] == 0


def test_int4_is_an_even_grid_of_fifteen_levels() -> None:
    levels = nf4.levels("int4")
    assert np.array_equal(levels, np.arange(-7, 8, dtype=np.float32) / np.float32(7))
    weights = normal(40, 64)
    ours = nf4.quantize(weights, "int4")
    assert ours.codes.max() <= 14
    steps = nf4.scale(weights, 64)[0].repeat(64).reshape(weights.shape) / 7
    assert (np.abs(weights - ours.restored) <= steps / 2 * 1.0001).all()


def test_nf4_errs_least_on_normal_weights_and_an_outlier_spoils_its_block() -> None:
    weights = normal(512, 512)
    for block_size in (32, 64, 256):
        best, *others = (
            nf4.measure_error(weights, nf4.quantize(weights, kind, block_size).restored)
            for kind in ("nf4", "fp4", "int4")
        )
        assert best.mean_absolute < min(other.mean_absolute for other in others)
        assert best.root_mean_square < min(other.root_mean_square for other in others)
    spoilt = with_outlier(512, 512)
    off = np.abs(spoilt - nf4.quantize(spoilt).restored).reshape(-1, 64).mean(axis=1)
    assert off[0] > 5 * off[1:].max()


@pytest.mark.parametrize(
    ("block_size", "double", "bits"),
    [(64, False, 4.5), (64, True, 4.126953125), (32, False, 5.0), (4096, True, 4.0019836)],
)
def test_bits_per_weight(block_size: int, double: bool, bits: float) -> None:
    assert nf4.bits_per_weight(block_size, double) == pytest.approx(bits, abs=1e-7)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 35, 147_456, 16_385])
@pytest.mark.parametrize("double", [False, True])
def test_stored_bytes_are_the_ledgers_and_the_librarys(count: int, double: bool) -> None:
    stored = nf4.stored_bytes(count, "nf4", 64, double)
    stage = "nf4-dq" if double else "nf4"
    assert stored.total == ledger.packed_bytes(count, stage) + ledger.constants_bytes(count, 0, stage)
    packed, state = bnb.quantize_4bit(torch.ones(1, count), blocksize=64, quant_type="nf4", compress_statistics=double)
    constants = state.absmax.nbytes + (state.state2.absmax.nbytes if double else 0)
    assert (stored.packed, stored.constants) == (packed.nbytes, constants)


@pytest.mark.parametrize(("weights", "block_size"), [([], 64), ([np.nan], 64), ([1.0, np.inf], 64), ([1.0], 0)])
def test_what_cannot_be_quantized(weights: list[float], block_size: int) -> None:
    with pytest.raises(ValueError, match=r"finite|block"):
        nf4.quantize(weights, "nf4", block_size)
