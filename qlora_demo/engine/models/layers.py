"""Which layers of a model are quantized, kept, trained and saved; and loading a model by that plan.

The plan is read off a classifier on the meta device (blueprint.py), without reading a weight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ...core.errors import DeviceError, ModelError
from . import compat
from .build import first_sentence, is_outside_base, load_from
from .sources import ModelSource

Storage = Literal["fp32", "fp16", "int8", "nf4", "nf4-dq"]
HEAD = re.compile(r"(^|\.)(score|classifier|classification_head|pre_classifier|pooler|head)(\.|$)")


@dataclass(frozen=True)
class LayerPlan:
    """What happens to each layer of one model. Names are full module names of the unquantized classifier.

    quantized: linear layers that become 4-bit (or 8-bit), also the LoRA targets of `all-linear`.
    kept: linear layers that stay as they are (heads, poolers, whatever is new, what the library keeps in FP32).
    skip: the list for bitsandbytes that brings this about. new_modules: modules the checkpoint does not have.
    save_modules: what PEFT trains and saves whole. parameters: of the model, tied weights once.
    """

    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    skip: tuple[str, ...]
    new_modules: tuple[str, ...]
    save_modules: tuple[str, ...]
    parameters: int


def plan_layers(model: PreTrainedModel, new: tuple[str, ...]) -> LayerPlan:
    """The plan for an unquantized classifier (on any device) whose checkpoint lacks the modules `new`."""
    linear = linear_layers(model)
    keep = [name for name in linear if name in new or HEAD.search(name) or is_outside_base(name, model)]
    # The list replaces the library's default, so that is added; full names end in $, since a bare name matches as a
    # suffix too.
    skip = [name + "$" for name in keep] + compat.names_left_dense(model)
    left_out = skip + compat.kept_in_fp32(model)  # T5's wo: the loader leaves these out by itself
    quantized = [name for name in linear if compat.is_converted(name, left_out)]
    if not quantized:
        raise ModelError(
            f"This {model.config.model_type} model has no linear layers that can be quantized; choose another model."
        )
    heads = {name.split(".")[0] for name, _ in model.named_parameters() if is_outside_base(name, model)}
    inside = {name for name in new if not is_outside_base(name, model)}
    # A module that lies within another saved one is saved with it.
    save = sorted(name for name in heads | inside if not any(name.startswith(other + ".") for other in inside))
    return LayerPlan(
        tuple(quantized),
        tuple(name for name in linear if name not in set(quantized)),
        tuple(skip),
        new,
        tuple(save),
        sum(parameter.numel() for parameter in model.parameters()),
    )


def linear_layers(model: nn.Module) -> list[str]:
    """Names of the layers that bitsandbytes can replace: exactly nn.Linear, and GPT-2's Conv1D."""
    return [name for name, module in model.named_modules() if is_linear(module)]


def is_linear(module: nn.Module) -> bool:
    """Whether it is exactly nn.Linear, or GPT-2's Conv1D, whose weight is transposed: no quantized layer and none of
    PEFT's.
    """
    return type(module) is nn.Linear or isinstance(module, Conv1D)


def quantization_config(
    precision: Storage, compute_dtype: torch.dtype, skip: tuple[str, ...]
) -> BitsAndBytesConfig | None:
    """How bitsandbytes holds the linear layers; None for the dense precisions."""
    if precision in ("fp32", "fp16"):
        return None
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(skip))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=precision == "nf4-dq",
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=list(skip),
    )


def load_model(
    source: ModelSource,
    precision: Storage,
    plan: LayerPlan,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    compute_dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> PreTrainedModel:
    """The classifier with its weights on `device` ("cpu", "cuda"), unquantized parts in `dtype`.

    Raises DeviceError when memory runs out, ModelError when the files do not load.
    """
    quantization = quantization_config(precision, compute_dtype or dtype, plan.skip)
    try:
        return load_from(source.folder, config, dtype, device, quantization)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            place = "this GPU" if device == "cuda" else "this machine"
            raise DeviceError(
                f"{source.name} at {precision} does not fit into the memory of {place}; choose a smaller model."
            ) from error
        raise ModelError(
            f"{source.name} does not load at {precision}: {first_sentence(error)}; fetch the model again or choose"
            " another."
        ) from error


def lora_targets(plan: LayerPlan, targets: str) -> list[str]:
    """Module names for PEFT: every quantized layer for `all-linear`, else the comma-separated names (matched as
    suffixes).
    """
    if targets.strip() == "all-linear":
        return list(plan.quantized)
    names = [name.strip() for name in targets.split(",") if name.strip()]
    known = (*plan.quantized, *plan.kept)
    for name in names:
        if not any(full == name or full.endswith("." + name) for full in known):
            short = ", ".join(sorted({full.rpartition(".")[2] for full in plan.quantized}))
            raise ModelError(f"The model has no linear layer called {name!r}; give all-linear, or some of {short}.")
        saved = [full for full in known if (full == name or full.endswith("." + name)) and not _is_saved(full, plan)]
        if not saved:
            raise ModelError(
                f"{name!r} is part of the head, which is trained whole; leave it out of the target modules."
            )
    if not names:
        raise ModelError("There are no target modules; give all-linear, or module names separated by commas.")
    return names


def _is_saved(name: str, plan: LayerPlan) -> bool:
    return any(name == saved or name.startswith(saved + ".") for saved in plan.save_modules)
