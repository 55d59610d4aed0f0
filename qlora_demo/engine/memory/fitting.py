"""Which batch fits on which hardware: GPUs and CPUs, each way of training, from predictions alone.

A deep model of equal layers is predicted from a short one where that is exact, else whole. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ...core.memory_report import Budget
from ...core.records import Fit
from ...core.safety import ALLOCATOR_SHARE, CONTEXT_BYTES, HEAP_SHARE, PROCESS_BYTES
from ..models.blueprint import Blueprint, read_blueprint
from .hardware import GPUS, OTHERS, TIERS, Tier
from .training_step import FULL, predict_budget

SHORT = (2, 4)  # layers to predict instead of all, and one more; the first layer is no middle one, so never one alone
MOST = 1 << 20
POINTS = (1, 2, 512, 1024)  # two small batches and two large ones: a line each; any batch costs the same to predict
WAYS = {"QLoRA": "nf4-dq", "16-bit LoRA": "fp16", "full fine-tuning": FULL}

Budgets = Mapping[str, Mapping[str, Sequence[Budget]]]
ShortModels = Mapping[int, tuple[Blueprint, Blueprint]]


def hardware_budgets(
    blueprint: Blueprint, length: int, ways: Mapping[str, str] = WAYS, **settings: Any
) -> dict[str, dict[str, tuple[Budget, ...]]]:
    """For "cuda" and "cpu", and each way of training: a step's budget at each of POINTS reviews; all that
    `fit_hardware` needs.

    settings: as `predict_budget`'s. On a CPU the heap's gaps are in it, as a share (see HEAP_SHARE).
    """
    short = _shorten(blueprint)
    budgets: dict[str, dict[str, tuple[Budget, ...]]] = {"cuda": {}, "cpu": {}}
    for way, precision in ways.items():
        points = _points(blueprint, short, precision=precision, length=length, kind="cuda", **settings)
        on_cpu = points
        if precision.startswith("nf4"):  # alone runs without autocast on a CPU; the other graphs are the same there
            on_cpu = _points(blueprint, short, precision=precision, length=length, kind="cpu", **settings)
        budgets["cuda"][way] = points
        budgets["cpu"][way] = tuple(
            replace(one, device="cpu", allocator_bytes=one.step_bytes // HEAP_SHARE) for one in on_cpu
        )
    return budgets


def fit_hardware(budgets: Budgets, tiers: Sequence[Tier] = TIERS, gpus: Mapping[str, int] | None = None) -> list[Fit]:
    """The largest power of two of reviews a step for each tier of Spaces, each other GPU, and each way; 0 where not
    even one fits.
    """
    if gpus is None:
        gpus = {name: GPUS[name] for name in OTHERS}
    fits = []
    for tier in (*tiers, *(Tier(name, count, None, None) for name, count in gpus.items())):
        device = "cuda" if tier.gpu_bytes is not None else "cpu"
        memory = tier.gpu_bytes if tier.gpu_bytes is not None else tier.ram_bytes or 0
        for way, points in budgets[device].items():
            batch, needed = _largest(partial(needed_on, device, points), memory)
            fits.append(Fit(tier.name, memory, way, batch, needed, device, tier.hour_dollars))
    return fits


def needed_on(device: str, points: Sequence[Budget], batch: int) -> int:
    """Bytes that a step of `batch` reviews needs: of a GPU with its reserve, or of main memory with the process
    itself.
    """
    return needed_bytes(points, batch) if device == "cuda" else PROCESS_BYTES + tensors_bytes(points, batch)


def needed_bytes(points: Sequence[Budget], batch: int) -> int:
    """Bytes of a GPU that a step of `batch` reviews needs, from predictions at POINTS; the reserve included.

    What is alive at any one moment grows linearly with the batch. With few reviews the peak comes when the gradients
    are there, with many when the activations are: the higher of two lines, one through the points of each pair.

    Reserve: CUDA's context, and a tenth of the rest for torch's allocator (core/safety.py)."""
    tensors = tensors_bytes(points, batch)
    return CONTEXT_BYTES + tensors + tensors // ALLOCATOR_SHARE


def tensors_bytes(points: Sequence[Budget], batch: int) -> int:
    """The predicted total of a step of `batch` reviews, from predictions at POINTS, without any reserve."""

    def line(one: Budget, two: Budget) -> int:
        grown = (two.total_bytes - one.total_bytes) / (two.batch_size - one.batch_size)
        return round(one.total_bytes + (batch - one.batch_size) * grown)

    return max(line(one, two) for one, two in zip(points[::2], points[1::2], strict=True))


def _largest(needed: Callable[[int], int], memory: int) -> tuple[int, int]:
    batch = 0
    while batch < MOST and needed(batch * 2 or 1) <= memory:
        batch = batch * 2 or 1
    return batch, needed(max(batch, 1))


def _points(blueprint: Blueprint, short: ShortModels, **settings: Any) -> tuple[Budget, ...]:
    def point(batch: int) -> Budget:
        for more, models in short.items():
            one, two = (predict_budget(model, batch_size=batch, **settings) for model in models)
            if _steepest(one, two):
                return _grow(one, two, more)
        return predict_budget(blueprint, batch_size=batch, **settings)

    return tuple(point(batch) for batch in POINTS)


def _steepest(one: Budget, two: Budget) -> bool:
    """Whether a layer more adds to the peak all that it ever can.

    The peak over depth is the highest of straight lines: what is alive when the backward pass begins grows by a layer's
    activations, when it ends by its gradients, in between by a mixture. So it is convex, and once it grows by the
    larger of the two it goes on so."""
    grown = two.step_bytes - one.step_bytes - (two.optimizer_bytes - one.optimizer_bytes)
    return grown == max(two.activations_bytes - one.activations_bytes, two.gradients_bytes - one.gradients_bytes)


def _grow(one: Budget, two: Budget, layers: int) -> Budget:
    """`one` with so many layers more, each of which adds what `two` has more."""
    names = [name for name in vars(one) if name.endswith("_bytes")]
    return replace(
        one, **{name: getattr(one, name) + layers * (getattr(two, name) - getattr(one, name)) for name in names}
    )


def _shorten(blueprint: Blueprint) -> ShortModels:
    """For each of SHORT, by the number of layers that are left out: the model of so many, and that of one more.

    Nothing where layers are few or not all alike.
    """
    config, plan = blueprint.config, blueprint.plan
    layers, kinds = int(getattr(config, "num_hidden_layers", 0) or 0), getattr(config, "layer_types", None) or []
    mixed = len(set(kinds)) > 1 or any(
        getattr(config, name, None) for name in ("global_attn_every_n_layers", "is_encoder_decoder")
    )
    if mixed or layers <= 2 * max(SHORT):
        return {}
    short = {layers - few: (_short(blueprint, few), _short(blueprint, few + 1)) for few in SHORT}
    more, (one, two) = next(iter(short.items()))
    return short if one.parameters + more * (two.parameters - one.parameters) == plan.parameters else {}


def _short(blueprint: Blueprint, layers: int) -> Blueprint:
    """The same model with so many layers; its plan is the whole model's, as far as its modules are there."""
    config, plan = blueprint.config, blueprint.plan
    stated = config.to_dict()
    stated[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = layers
    if stated.get("layer_types"):
        stated["layer_types"] = stated["layer_types"][:layers]
    short = read_blueprint(type(config).from_dict(stated), blueprint.labels)
    names = {name for name, _ in short.model.named_modules()}
    parts = ("quantized", "kept", "new_modules", "save_modules")
    kept = {part: tuple(name for name in getattr(plan, part) if name in names) for part in parts}
    return replace(short, plan=replace(plan, **kept, parameters=short.parameters))
