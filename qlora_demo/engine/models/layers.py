"""Which layers of a model are quantized, kept, trained and saved; and loading a model by that plan.

The plan comes from the configuration and the checkpoint's header, on the meta device, without reading a weight.
Knows nothing of reviews, LoRA settings or memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import bitsandbytes as bnb
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from ...core.errors import DeviceError, ModelError
from .. import building
from .sources import ModelSource, read_config, read_header

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


def load_config(source: ModelSource | PretrainedConfig, labels: int) -> PretrainedConfig:
    """The transformers configuration with `labels` classes. Raises ModelError for what is no text classifier's base."""
    if labels < 1:
        raise ModelError(f"A classifier with {labels} labels cannot be built; give at least 1.")
    if isinstance(source, PretrainedConfig):
        config = type(source).from_dict({**source.to_dict(), "id2label": None, "label2id": None}, num_labels=labels)
    elif source.shape is not None:
        config = AutoConfig.for_model(**source.shape, num_labels=labels)
    else:
        stated = read_config(source.folder)
        try:
            config = AutoConfig.from_pretrained(
                source.folder, num_labels=labels, trust_remote_code=False, local_files_only=True
            )
        except (ValueError, KeyError, OSError, TypeError, StrictDataclassError) as error:
            if stated["model_type"] not in CONFIG_MAPPING:
                raise ModelError(
                    f"The architecture {stated['model_type']!r} of {source.name} is not known to transformers"
                    f" {transformers.__version__}; choose a model that it knows."
                ) from error
            raise ModelError(
                f"The configuration of {source.name} (model_type {stated['model_type']!r}) is not understood: "
                f"{_first_line(error)}; choose a model that this transformers version knows."
            ) from error
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ModelError(
            f"A {config.model_type} model cannot be a text classifier here; choose one such as GPT-2, BERT or Qwen."
        )
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(vocabulary, int) or vocabulary < 1:
        raise ModelError(
            f"This {config.model_type} model has no vocabulary (vocab_size is {vocabulary}); choose another."
        )
    return config


def meta_model(
    config: PretrainedConfig, header: Mapping[str, tuple[int, ...]] | None = None, dtype: torch.dtype = torch.float16
) -> tuple[PreTrainedModel, set[str]]:
    """The classifier on the meta device (no memory for weights), in the dtypes that loading would give; and its missing
    parameters.

    header: names and shapes in the checkpoint, put through transformers' own loading, which knows prefixes and
    renamings; None = a checkpoint that has all but what lies outside the base model."""
    try:
        with building, torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, dtype=dtype, trust_remote_code=False)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        AssertionError,
        RuntimeError,
        ImportError,
        ZeroDivisionError,
    ) as error:
        raise ModelError(
            f"The configuration of this {config.model_type} model does not build a classifier: {_first_line(error)};"
            " choose another model."
        ) from error
    if header is None:
        # A checkpoint holds tied weights once; given twice, they would come back as two.
        stored = {
            name: value
            for name, value in model.state_dict().items()
            if not _outside_base(name, model) and name not in model.all_tied_weights_keys
        }
    else:
        stored = {name: torch.empty(shape, device="meta") for name, shape in header.items()}
    with building:
        loaded, info = type(model).from_pretrained(
            None,
            config=config,
            state_dict=stored,
            dtype=dtype,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    missing = set(info["missing_keys"]) | {
        item if isinstance(item, str) else item[0] for item in info["mismatched_keys"]
    }
    return loaded, missing


def missing_modules(source: ModelSource | PretrainedConfig, labels: int) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The classifier on the meta device, and the modules its checkpoint lacks. Raises ModelError if it lacks most of
    the model.

    Without weights at hand (a shape), what lies outside the base model counts as lacking.
    """
    config = load_config(source, labels)
    header = read_header(source.folder) if isinstance(source, ModelSource) and source.has_weights else None
    model, missing = meta_model(config, header)
    base = [name for name, _ in model.named_parameters() if not _outside_base(name, model)]
    if base and sum(name in missing for name in base) > len(base) / 2:
        raise ModelError(
            f"The weights of {getattr(source, 'name', config.model_type)} do not fit its configuration "
            f"({len(missing)} tensors are missing); fetch the model again or choose another."
        )
    return model, tuple(sorted({name.rpartition(".")[0] for name in missing}))


def plan_layers(source: ModelSource | PretrainedConfig, labels: int) -> LayerPlan:
    """The plan for a model with `labels` classes. Raises ModelError, also where there is nothing to quantize."""
    return plan_for(*missing_modules(source, labels))


def plan_for(model: PreTrainedModel, new: tuple[str, ...]) -> LayerPlan:
    """The plan for an unquantized classifier (on any device) whose checkpoint lacks the modules `new`."""
    linear = linear_layers(model)
    keep = [name for name in linear if name in new or HEAD.search(name) or _outside_base(name, model)]
    # The list replaces the library's default, so that is added; full names end in $, since a bare name matches as a
    # suffix too.
    skip = [name + "$" for name in keep] + sorted(get_keys_to_not_convert(model))
    kept_fp32 = sorted(
        getattr(model, "_keep_in_fp32_modules", None) or ()
    )  # T5's wo: the loader leaves these out by itself
    quantized = [name for name in linear if should_convert_module(name, skip + kept_fp32)]
    if not quantized:
        raise ModelError(
            f"This {model.config.model_type} model has no linear layers that can be quantized; choose another model."
        )
    heads = {name.split(".")[0] for name, _ in model.named_parameters() if _outside_base(name, model)}
    inside = {name for name in new if not _outside_base(name, model)}
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
    labels: int,
    precision: Storage,
    plan: LayerPlan,
    *,
    dtype: torch.dtype,
    compute_dtype: torch.dtype | None = None,
    device: str = "cpu",
    config: PretrainedConfig | None = None,
) -> PreTrainedModel:
    """The classifier with its weights on `device` ("cpu", "cuda"), unquantized parts in `dtype`.

    Raises DeviceError when memory runs out, ModelError when the files do not load.
    """
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            source.folder,
            config=config or load_config(source, labels),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            device_map={"": 0 if device == "cuda" else device},
            quantization_config=quantization_config(precision, compute_dtype or dtype, plan.skip),
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DeviceError(
            f"{source.name} at {precision} does not fit into the memory of this {device}; choose a smaller model."
        ) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise DeviceError(
                f"{source.name} at {precision} does not fit into this machine's memory; choose a smaller model."
            ) from error
        raise _does_not_load(source, precision, error) from error
    except (ValueError, OSError) as error:
        raise _does_not_load(source, precision, error) from error
    return steady(model)


def steady(model: PreTrainedModel) -> PreTrainedModel:
    """Keeps 4-bit weights as they are.

    On processors with AVX512-BF16, bitsandbytes repacks them in place at the first forward pass in evaluation mode,
    after which a training step fails, or silently has no gradient (bitsandbytes 0.50 nn/modules.py,
    Linear4bit.forward)."""
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


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


def _outside_base(name: str, model: PreTrainedModel) -> bool:
    """Whether a parameter or module belongs to the head rather than to the base model."""
    prefix: Any = model.base_model_prefix
    return bool(prefix) and hasattr(model, prefix) and not name.startswith(prefix + ".")


def _does_not_load(source: ModelSource, precision: str, error: Exception) -> ModelError:
    return ModelError(
        f"{source.name} does not load at {precision}: {_first_line(error)}; fetch the model again or choose another."
    )


def _first_line(error: BaseException) -> str:
    """The first sentence of a library's message, on one line."""
    return (" ".join(str(error).split()) or type(error).__name__).partition(". ")[0].rstrip(". ")[:200]
