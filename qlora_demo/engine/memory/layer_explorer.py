"""What the Learn tab shows: the layers of a model, one layer quantized, and how well-known shapes shrink.

Every figure comes from real weights or from the project's own predictor. Returns records; knows no page."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypedDict

import numpy as np
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

from ...core.errors import AdapterError, ModelError, ReportError, SettingsError
from ...core.memory_report import LayerStudy, OptimizerState, QuantizationError, ShapeStudy
from ...core.run_report import RunReport
from ..models.blueprint import read_blueprint
from ..models.shapes import SHAPES, canonical, shape_of
from ..models.sources import INDEX, WEIGHTS, ModelSource, read_header
from . import ledger, nf4
from .optimizers import optimizer_bytes

LABELS = 5
OWN, NORMAL, OUTLIER = "own", "normal", "outlier"
OUTLIER_AT, OUTLIER_SIZE = 1000, 50  # which weight, and how many standard deviations
BINS = 96
MAP_BLOCKS, MAP_CELLS = 32, 32


@dataclass(frozen=True)
class Layer:
    """A layer that QLoRA quantizes. `shape` is (outputs, inputs), `tensor` its name in the checkpoint, which may hold
    it turned.
    """

    name: str
    shape: tuple[int, int]
    tensor: str
    turned: bool


def list_layers(source: ModelSource) -> dict[str, Layer]:
    """The quantizable layers of a model whose weights are here, by name, in the model's order. Raises ModelError."""
    header, blueprint = read_header(source.folder), read_blueprint(source, LABELS)
    layers = {}
    for name in blueprint.plan.quantized:
        # The checkpoint of a base model lacks the classifier's prefix.
        tensor = next((key for key in header if f"{name}.weight" == key or f".{name}.weight".endswith("." + key)), None)
        if tensor is None or len(header[tensor]) != 2:
            continue
        turned = isinstance(blueprint.model.get_submodule(name), Conv1D)
        rows, columns = header[tensor]
        layers[name] = Layer(name, (columns, rows) if turned else (rows, columns), tensor, turned)
    if not layers:
        raise ModelError(f"None of the layers of {source.name} could be read; give another model.")
    return layers


def read_weights(source: ModelSource, layer: Layer) -> nf4.Floats:
    """The layer's weights as float32, turned as bitsandbytes quantizes them."""
    file = WEIGHTS
    if not (source.folder / WEIGHTS).is_file():
        file = json.loads((source.folder / INDEX).read_text(encoding="utf-8"))["weight_map"][layer.tensor]
    # By way of torch, because numpy has no bfloat16.
    with safe_open(source.folder / file, framework="pt") as opened:
        weights = opened.get_tensor(layer.tensor).float().numpy()
    return np.ascontiguousarray(weights.T if layer.turned else weights)


def choose_weights(own: nf4.Floats, which: str) -> nf4.Floats:
    """The layer's own weights; or normal random ones of the same shape, mean and spread, with or without one
    outlier.
    """
    if which == OWN:
        return own
    weights = np.random.default_rng(0).normal(own.mean(), own.std(), own.shape).astype(np.float32)
    if which == OUTLIER:
        weights.reshape(-1)[min(OUTLIER_AT, weights.size - 1)] = OUTLIER_SIZE * own.std()
    return weights


def check_choice(kind: object, block_size: object, which: object) -> None:
    """Raises SettingsError with one sentence for each choice that there is not."""
    offered = {
        "kind": (kind, nf4.KINDS),
        "block size": (block_size, nf4.BLOCK_SIZES),
        "weights": (which, (OWN, NORMAL, OUTLIER)),
    }
    wrong = {
        name: f"The {name} {str(value)[:40]!r} is not offered; choose one of {', '.join(map(str, choices))}."
        for name, (value, choices) in offered.items()
        if value not in choices
    }
    if wrong:
        raise SettingsError(wrong)


def examine(weights: nf4.Floats, kind: nf4.Kind, block_size: int, double: bool) -> LayerStudy:
    """One matrix under the microscope: its weights in units of their block's absmax, the levels, errors, bits and
    bytes.
    """
    absmax, scaled = nf4.scale(weights, block_size)
    by_kind = {kind: nf4.quantize(weights, kind, block_size, double) for kind in nf4.KINDS}
    codes, restored = by_kind[kind].codes, by_kind[kind].restored
    errors: dict[str, QuantizationError] = {
        other: nf4.measure_error(weights, one.restored) for other, one in by_kind.items()
    }
    counts, _ = np.histogram(scaled, BINS, (-1, 1))
    levels = nf4.levels(kind)
    used = np.bincount(codes, minlength=levels.size) / codes.size
    spread = float(weights.std(dtype=np.float64))
    cells = error_map(weights, restored, block_size)
    return LayerStudy(
        kind=kind,
        block_size=block_size,
        double=double,
        shape=(weights.shape[0], weights.shape[1]),
        spread=spread,
        largest=float(np.abs(weights).max()),
        blocks=int(absmax.size),
        counts=counts.tolist(),
        levels=[(round(float(level), 6), float(share)) for level, share in sorted(zip(levels, used, strict=True))],
        bits=nf4.bits_per_weight(block_size, double),
        used_bits=float(-(used[used > 0] * np.log2(used[used > 0])).sum()),
        error=errors[kind],
        errors=errors,
        bytes=nf4.stored_bytes(weights.size, kind, block_size, double),
        map=cells,
        absmax=[float(value) for value in absmax[: len(cells)]],
        **_worst_block(weights, restored, block_size),
    )


def error_map(weights: nf4.Floats, restored: nf4.Floats, block_size: int) -> list[list[float]]:
    """Mean absolute error of the first blocks, a row each, in cells of equally many weights; in standard deviations of
    all weights.

    The last block is left out where it is partial (unless there is no other).
    """
    off = np.abs(weights - restored).reshape(-1) / max(float(weights.std()), 1e-30)
    rows = min(MAP_BLOCKS, off.size // block_size)
    blocks = off[: rows * block_size].reshape(rows, MAP_CELLS, -1) if rows else off.reshape(1, 1, -1)
    return [[round(float(cell), 4) for cell in row] for row in blocks.mean(axis=2)]


class _WorstBlock(TypedDict):
    """The fields of LayerStudy on the errors of single blocks."""

    worst_block: int
    worst_block_error: float
    median_block_error: float


def _worst_block(weights: nf4.Floats, restored: nf4.Floats, block_size: int) -> _WorstBlock:
    """The block with the largest mean error, and the middle one of all, both in the unit of the weights."""
    off = np.abs(weights - restored).reshape(-1)
    starts = np.arange(0, off.size, block_size)
    means = np.add.reduceat(off, starts, dtype=np.float64) / np.diff([*starts, off.size])
    return {
        "worst_block": int(means.argmax()),
        "worst_block_error": float(means.max()),
        "median_block_error": float(np.median(means)),
    }


@cache
def predict_shape(model: str) -> ShapeStudy:
    """How a well-known model shrinks, from the shape that the app carries: FP16 against NF4 with double quantization.

    The totals are the memory ledger's own; nothing is asked of the Hub. Raises ModelError for a model whose shape is
    not carried."""
    shape = shape_of(model)
    if shape is None:
        raise ModelError(f"The app carries no shape of {model[:60]!r}; choose one of {', '.join(SHAPES)}.")
    blueprint = read_blueprint(ModelSource(model, Path(), "", canonical(model), False, shape), LABELS)
    fp16, nf4_dq = ledger.predict(blueprint, ("fp16", "nf4-dq"))
    rows = ledger.architecture(blueprint)
    matrices = [row for row in rows if row.changed]
    return ShapeStudy(
        model=model,
        parameters=blueprint.parameters,
        fp16_bytes=fp16.total_bytes,
        nf4_bytes=nf4_dq.total_bytes,
        embedding_bytes=sum(row.bytes_before for row in rows if row.kind_before == "Embedding"),
        matrices_fp16_bytes=sum(row.bytes_before for row in matrices),
        matrices_nf4_bytes=sum(row.bytes_after for row in matrices),
        constants_bytes=nf4_dq.constants_bytes,
        vocabulary=shape["vocab_size"],
    )


def optimizer_of_run(folder: Path) -> OptimizerState:
    """AdamW's state in a finished run, from the report beside (or above) its adapter. Raises AdapterError."""
    path = next((place / "report.json" for place in (folder, folder.parent) if (place / "report.json").is_file()), None)
    try:
        if path is None:
            raise OSError("there is none")
        report = RunReport.parse(path.read_text(encoding="utf-8"))
    except (OSError, ReportError) as error:
        raise AdapterError(
            f"The report of the adapter in {folder.name} cannot be read ({error}); train it again."
        ) from error
    trained = report.parameters.trainable if report.parameters else 0
    return replace(optimizer_state(trained), peak_bytes=report.memory.peak_bytes, peak_is=report.memory.peak_is)


def optimizer_state(trained: int) -> OptimizerState:
    """Bytes of AdamW's two moments for `trained` parameters, in 32 and in 8 bits; small parameters, which keep 32 bits,
    are not told apart.
    """
    whole, small = (optimizer_bytes([trained], name) for name in ("adamw_torch_fused", "adamw_8bit"))
    return OptimizerState(trained, whole, small)
