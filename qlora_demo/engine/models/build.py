"""Where models come into being: on the meta device, with their weights, with LoRA on top. One at a time.

PEFT and transformers patch torch's modules and its default dtype for the whole process while they build, so two builds
break each other, and numbers made meanwhile by torch's defaults come out rounded. The lock is private to this module;
nothing here waits for a network, since all files are read from a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from ...core.errors import ModelError
from . import compat

Header = Mapping[str, tuple[int, ...]]
# What the constructors of models raise for a configuration that makes no sense.
BUILD_ERRORS = (
    *(ValueError, TypeError, KeyError, AttributeError, AssertionError, RuntimeError),
    *(ImportError, ZeroDivisionError),
)


class _Builds:
    """One build at a time, and none while someone computes by torch's defaults; who builds goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._builder: int | None = None  # the thread that builds
        self._waiting = self._computing = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._builder is None and not self._computing)
            self._waiting -= 1
            self._builder = threading.get_ident()
        try:
            yield
        finally:
            with self._changed:
                self._builder = None
                self._changed.notify_all()

    @contextmanager
    def kept_away(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._builder is None and not self._waiting)
            self._computing += 1
        try:
            yield
        finally:
            with self._changed:
                self._computing -= 1
                self._changed.notify_all()


_builds = _Builds()
# While inside, no model is built, so that torch's default dtype is its own; any number of threads may be inside. The
# thread itself must build nothing there: it would wait for itself.
undisturbed = _builds.kept_away


def build_on_meta(
    config: PretrainedConfig, header: Header | None, dtype: torch.dtype
) -> tuple[PreTrainedModel, set[str]]:
    """The classifier on the meta device (no memory for weights), in the dtypes that loading would give; and the names
    of the parameters that its checkpoint lacks.

    header: names and shapes in the checkpoint, put through transformers' own loading, which knows prefixes and
    renamings; None = a checkpoint that has all but what lies outside the base model. Raises ModelError."""
    try:
        if header is not None:
            return _load_on_meta(config, header, dtype)
        model, _ = _load_on_meta(config, {}, dtype)
        # A checkpoint holds tied weights once; given twice, they would come back as two.
        inside = {name: value for name, value in model.state_dict().items() if not is_outside_base(name, model)}
        if compat.kept_in_fp32(model):  # the loader looks at these only where the checkpoint has them
            stored = {name: tuple(inside[name].shape) for name in inside if name not in model.all_tied_weights_keys}
            return _load_on_meta(config, stored, dtype)
        return model, set(model.state_dict()) - set(inside)
    except BUILD_ERRORS as error:
        raise ModelError(
            f"The configuration of this {config.model_type} model does not build a classifier: {first_sentence(error)};"
            " choose another model."
        ) from error


def _load_on_meta(config: PretrainedConfig, header: Header, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
    kind = compat.classifier_class(config)
    assert kind is not None  # load_config has looked
    stored = {name: torch.empty(shape, device="meta") for name, shape in header.items()}
    with _builds.alone():
        built: Any = kind.from_pretrained(
            None,
            config=config,
            state_dict=stored,
            dtype=dtype,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model, loading = built
    mismatched = {item if isinstance(item, str) else item[0] for item in loading["mismatched_keys"]}
    return model, set(loading["missing_keys"]) | mismatched


def load_from(
    folder: Path, config: PretrainedConfig, dtype: torch.dtype, device: str, quantization: BitsAndBytesConfig | None
) -> PreTrainedModel:
    """The classifier with the weights in `folder` on `device` ("cpu", "cuda"), unquantized parts in `dtype`; 4-bit
    weights stay as they are. Raises what transformers raises, and ModelError.
    """
    with _builds.alone():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            device_map={"": 0 if device == "cuda" else device},
            quantization_config=quantization,
        )
    return compat.keep_packed(model)


def add_lora(model: PreTrainedModel, config: LoraConfig, *, on_meta: bool = False) -> PeftModel:
    """The model with fresh adapters (changed in place); on_meta: without memory for them. Raises what PEFT raises."""
    with _builds.alone():
        return get_peft_model(model, config, low_cpu_mem_usage=on_meta)  # type: ignore[return-value]


def load_lora(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with the adapter in `folder` (changed in place), not to be trained. Raises what PEFT raises."""
    with _builds.alone():
        return PeftModel.from_pretrained(model, str(folder), is_trainable=False)


def is_outside_base(name: str, model: PreTrainedModel) -> bool:
    """Whether a parameter or module belongs to the head rather than to the base model."""
    prefix = base_prefix(model)
    return bool(prefix) and not name.startswith(prefix + ".")


def base_prefix(model: PreTrainedModel) -> str:
    """The attribute that holds the base model; "" where there is none."""
    prefix = str(model.base_model_prefix or "")
    return prefix if prefix and hasattr(model, prefix) else ""


def first_sentence(error: BaseException) -> str:
    """The first sentence of a library's message, on one line."""
    return (" ".join(str(error).split()) or type(error).__name__).partition(". ")[0].rstrip(". ")[:200]
