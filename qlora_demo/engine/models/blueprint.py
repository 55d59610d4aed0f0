"""One description of a model: its configuration, the classifier on the meta device, the plan of its layers, and counts.

Built once for a source and a number of labels, and kept: the ledger, a training step, fitting, the architecture, random
weights and the Learn tab all read the same one. No weight is read."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from cachetools import LRUCache, cached
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel

from ...core.errors import ModelError
from . import compat
from .build import base_prefix, build_on_meta, first_sentence, is_outside_base
from .layers import LayerPlan, plan_layers
from .sources import INDEX, WEIGHTS, ModelSource, read_config, read_header

Source = ModelSource | PretrainedConfig
KEPT = 8  # blueprints: the largest, of a model with 80 layers, holds some 5 MB of Python objects


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A classifier with `labels` classes, described.

    source: where its files are; a configuration alone stands for a model without weights. config: as it is trained,
    without dropout in the frozen base. model: FP16 on the meta device, in the dtypes that loading gives; everybody
    reads this one, so nobody may change it (see `copy_model`). plan: which layers are quantized, kept, trained."""

    source: Source
    labels: int
    config: PretrainedConfig
    model: PreTrainedModel
    plan: LayerPlan

    @property
    def name(self) -> str:
        return self.source.name if isinstance(self.source, ModelSource) else str(self.config.model_type)

    @property
    def base_prefix(self) -> str:
        """The attribute of the classifier that holds the base model; "" where there is none."""
        return base_prefix(self.model)

    @property
    def parameters(self) -> int:
        """Parameters of the classifier, tied weights once."""
        return self.plan.parameters

    @property
    def base_parameters(self) -> int:
        """Parameters without a classifier's head, tied weights once."""
        return sum(parameter.numel() for parameter in self.model.base_model.parameters())

    def copy_model(self, dtype: torch.dtype) -> PreTrainedModel:
        """A fresh classifier on the meta device as loading in `dtype` gives it, to be changed."""
        if dtype == torch.bfloat16:  # what the loader keeps in FP32 for FP16, it does not for BF16
            model, _ = build_on_meta(copy.deepcopy(self.config), None, dtype)
            return model
        model = copy.deepcopy(self.model)
        return model.float() if dtype == torch.float32 else model


def read_blueprint(source: Source, labels: int) -> Blueprint:
    """The blueprint of a model; the same one for the same files. Raises ModelError for what is no text classifier's
    base, for weights that do not fit, and where there is nothing to quantize.
    """
    return _build(source, labels)


def load_config(source: Source, labels: int) -> PretrainedConfig:
    """The transformers configuration with `labels` classes, without dropout: LoRA has its own, and in the frozen base
    it costs a quarter of the speed on a CPU. Raises ModelError for what is no text classifier's base.
    """
    if labels < 1:
        raise ModelError(f"A classifier with {labels} labels cannot be built; give at least 1.")
    config = _read_config(source, labels)
    if compat.classifier_class(config) is None:
        raise ModelError(
            f"A {config.model_type} model cannot be a text classifier here; choose one such as GPT-2, BERT or Qwen."
        )
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(vocabulary, int) or vocabulary < 1:
        raise ModelError(
            f"This {config.model_type} model has no vocabulary (vocab_size is {vocabulary}); choose another."
        )
    for name, value in vars(config).copy().items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            setattr(config, name, 0.0)
    return config


def _read_config(source: Source, labels: int) -> PretrainedConfig:
    if isinstance(source, PretrainedConfig):
        return type(source).from_dict({**source.to_dict(), "id2label": None, "label2id": None}, num_labels=labels)
    if source.shape is not None:
        return AutoConfig.for_model(**source.shape, num_labels=labels)
    model_type = read_config(source.folder)["model_type"]
    try:
        return AutoConfig.from_pretrained(
            source.folder, num_labels=labels, trust_remote_code=False, local_files_only=True
        )
    except (ValueError, KeyError, OSError, TypeError, StrictDataclassError) as error:
        if model_type not in CONFIG_MAPPING:
            raise ModelError(
                f"The architecture {model_type!r} of {source.name} is not known to transformers"
                f" {transformers.__version__}; choose a model that it knows."
            ) from error
        raise ModelError(
            f"The configuration of {source.name} (model_type {model_type!r}) is not understood:"
            f" {first_sentence(error)}; choose a model that this transformers version knows."
        ) from error


def _key(source: Source, labels: int) -> Hashable:
    """What tells one description from another: the files by their times, a shape by its content."""
    if isinstance(source, PretrainedConfig):
        return type(source), json.dumps(source.to_dict(), sort_keys=True, default=str), labels
    if source.shape is not None:
        return source.name, json.dumps(dict(source.shape), sort_keys=True), labels
    return (
        source.name,
        source.revision,
        *(_state(source.folder / name) for name in ("config.json", WEIGHTS, INDEX)),
        labels,
    )


def _state(path: Path) -> Hashable:
    try:
        state = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), state.st_mtime_ns, state.st_size


@cached(LRUCache(KEPT), key=_key, condition=threading.Condition())
def _build(source: Source, labels: int) -> Blueprint:
    config = load_config(source, labels)
    header = read_header(source.folder) if isinstance(source, ModelSource) and source.has_weights else None
    model, missing = build_on_meta(copy.deepcopy(config), header, torch.float16)
    base = [name for name, _ in model.named_parameters() if not is_outside_base(name, model)]
    if base and sum(name in missing for name in base) > len(base) / 2:
        raise ModelError(
            f"The weights of {getattr(source, 'name', config.model_type)} do not fit its configuration "
            f"({len(missing)} tensors are missing); fetch the model again or choose another."
        )
    new = tuple(sorted({name.rpartition(".")[0] for name in missing}))
    return Blueprint(source, labels, config, model, plan_layers(model, new))
