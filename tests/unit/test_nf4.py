"""Quantization in numpy against bitsandbytes' own, bit for bit: codes, constants, restored values; and the sums of its
bytes.

On random, constant, zero, outlier and real blocks, a partial last block included. No model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch
from safetensors.numpy import safe_open

from qlora_demo.engine.memory import ledger, nf4
from qlora_demo.engine.models import sources

LAYERS = (
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.5.intermediate.dense.weight",
    "encoder.layer.3.output.dense.weight",
)


def normal(*shape: int, seed: int = 0) -> nf4.Floats:
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)


def with_outlier(*shape: int) -> nf4.Floats:
    weights = normal(*shape)
    weights.reshape(-1)[7] = 40
    return weights


def mixed() -> nf4.Floats:
    """Blocks of zeros, of one value, of the smallest numbers, and ordinary ones beside each other, the last one partial
    and zero.
    """
    blocks = [np.zeros(64), np.full(64, 0.25), np.full(64, -3e-39), np.full(64, 1e-42), normal(64), np.zeros(31)]
    return np.concatenate(blocks)[None].astype(np.float32)


SYNTHETIC = {
    "random": normal(256, 128),
    "odd": normal(37, 53),
    "partial": normal(1, 1000),
    "shorter than a block": normal(1, 19),
    "one weight": normal(1, 1),
    "constant": np.full((96, 64), -0.125, np.float32),
    "zero": np.zeros((64, 64), np.float32),
    "zero and partial": np.zeros((1, 100), np.float32),
    "outlier": with_outlier(128, 128),
    "outlier, partial": with_outlier(33, 65),
    "tiny and zero blocks": mixed(),
    "midpoints": np.concatenate([[1.0], nf4.BOOKS["nf4"].midpoints, np.zeros(48), nf4.BOOKS["nf4"].midpoints, [-1.0]])[
        None
    ].astype(np.float32),
}


@pytest.fixture(scope="module", autouse=True)
def _uncompiled() -> Iterator[None]:
    """bitsandbytes compiles one of its functions with torch, which takes seconds and changes nothing."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture(scope="module")
def real() -> dict[str, nf4.Floats]:
    """Matrices of the embedded sample model."""
    with safe_open(sources.resolve("sample").folder / "model.safetensors", framework="numpy") as file:
        return {name: file.get_tensor(name) for name in LAYERS}


def same_bits(ours: np.ndarray, theirs: torch.Tensor) -> bool:
    return ours.tobytes() == theirs.contiguous().numpy().tobytes()


def check(weights: nf4.Floats, kind: nf4.Kind, block_size: int) -> None:
    """Everything bitsandbytes makes of these weights, on the CPU, with and without double quantization."""
    if weights.shape[-1] < block_size:
        # bitsandbytes 0.50's AVX512 kernel restores rows that are shorter than a block with other blocks' constants.
        weights = weights.reshape(1, -1)
    tensor = torch.from_numpy(weights)
    ours = nf4.quantize(weights, kind, block_size)
    packed, state = bnb.quantize_4bit(tensor, blocksize=block_size, quant_type=kind)
    assert same_bits(nf4.pack(ours), packed)
    assert same_bits(nf4.unpack(packed.numpy().reshape(-1), weights.size), torch.from_numpy(ours.codes))
    assert same_bits(ours.absmax, state.absmax)
    assert np.array_equal(nf4.restore(ours), bnb.dequantize_4bit(packed, state).numpy())
    if kind == "nf4":  # FP4 holds 0 twice, and which of them is -0 is nobody's business
        assert same_bits(nf4.restore(ours), bnb.dequantize_4bit(packed, state))

    packed, state = bnb.quantize_4bit(tensor, blocksize=block_size, quant_type=kind, compress_statistics=True)
    theirs = nf4.QuantizedConstants(
        state.absmax.numpy(), state.state2.absmax.numpy(), np.float32(state.offset.item()), state.state2.code.numpy()
    )
    assert state.state2.blocksize == nf4.BLOCK_OF_CONSTANTS
    restored = nf4.restore(ours, nf4.restore_constants(theirs))
    assert np.array_equal(restored, bnb.dequantize_4bit(packed, state).numpy())


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("name", SYNTHETIC)
def test_as_bitsandbytes_to_the_bit(name: str, kind: nf4.Kind) -> None:
    check(SYNTHETIC[name], kind, 64)


@pytest.mark.parametrize("block_size", nf4.BLOCK_SIZES)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_every_block_size(block_size: int, kind: nf4.Kind) -> None:
    check(normal(96, 171, seed=block_size), kind, block_size)
    check(with_outlier(33, 256), kind, block_size)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_real_weights(real: dict[str, nf4.Floats], kind: nf4.Kind) -> None:
    for weights in real.values():
        check(weights, kind, 64)
    check(np.ascontiguousarray(real[LAYERS[0]][:101, :99]), kind, 128)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype: torch.dtype) -> None:
    """A checkpoint in 16 bits is widened first; that is exact."""
    tensor = torch.from_numpy(normal(50, 70)).to(dtype)
    ours = nf4.quantize(tensor.float().numpy())
    packed, state = bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4")
    assert same_bits(nf4.pack(ours), packed) and same_bits(ours.absmax, state.absmax)


def test_the_8_bit_map_is_bitsandbytes_to_the_bit() -> None:
    assert same_bits(nf4.dynamic_map(), bnb.create_dynamic_map())


def test_our_own_double_quantization_agrees(real: dict[str, nf4.Floats]) -> None:
    """In 99.5 % of the codes, and by one level where not."""
    for weights in (*real.values(), normal(1536, 384), with_outlier(512, 512)):
        ours = nf4.quantize_constants(nf4.quantize(weights).absmax)
        _, state = bnb.quantize_4bit(
            torch.from_numpy(weights), blocksize=64, quant_type="nf4", compress_statistics=True
        )
        differ = ours.codes != state.absmax.numpy()
        assert differ.mean() <= 0.005
        assert np.abs(ours.codes.astype(int) - state.absmax.numpy().astype(int)).max() <= 1
        assert float(ours.offset) == pytest.approx(state.offset.item(), rel=1e-6)
        np.testing.assert_allclose(ours.absmax, state.state2.absmax.numpy(), rtol=1e-5)


def test_nf4_levels_are_quantiles_of_the_normal_distribution() -> None:
    """QLoRA, appendix E: eight quantiles above zero, seven below, between 0.5 and 0.9677083; zero; scaled to 1."""
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
    levels = np.sort([*above, 0.0, *below]) / max(above)
    np.testing.assert_allclose(nf4.BOOKS["nf4"].levels, levels, atol=2e-7)
    assert nf4.BOOKS["nf4"].levels[7] == 0


def test_int4_is_an_even_grid_of_fifteen_levels() -> None:
    levels = nf4.BOOKS["int4"].levels
    assert np.array_equal(levels, np.arange(-7, 8, dtype=np.float32) / np.float32(7))
    weights = normal(40, 64)
    ours = nf4.quantize(weights, "int4")
    assert ours.codes.max() <= 14
    steps = ours.absmax.repeat(64).reshape(weights.shape) / 7
    assert (np.abs(weights - nf4.restore(ours)) <= steps / 2 * 1.0001).all()


def test_nf4_errs_least_on_normal_weights_and_an_outlier_spoils_its_block() -> None:
    weights = normal(512, 512)
    for block_size in (32, 64, 256):
        errors = {
            kind: nf4.measure_error(weights, nf4.restore(nf4.quantize(weights, kind, block_size))) for kind in nf4.KINDS
        }
        assert errors["nf4"].mean_absolute < min(errors["fp4"].mean_absolute, errors["int4"].mean_absolute)
        assert errors["nf4"].root_mean_square < min(errors["fp4"].root_mean_square, errors["int4"].root_mean_square)
    spoilt = with_outlier(512, 512)
    off = np.abs(spoilt - nf4.restore(nf4.quantize(spoilt))).reshape(-1, 64).mean(axis=1)
    assert off[0] > 5 * off[1:].max()


def test_errors() -> None:
    error = nf4.measure_error([0.0, 3.0], [0.0, -1.0])
    assert error == (2.0, np.sqrt(8), 4.0)


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
    assert stored.packed == packed.nbytes and stored.constants == state.absmax.nbytes + (
        state.state2.absmax.nbytes if double else 0
    )


@pytest.mark.parametrize(("weights", "block_size"), [([], 64), ([np.nan], 64), ([1.0, np.inf], 64), ([1.0], 0)])
def test_what_cannot_be_quantized(weights: list[float], block_size: int) -> None:
    with pytest.raises(ValueError, match=r"finite|block"):
        nf4.quantize(weights, "nf4", block_size)
