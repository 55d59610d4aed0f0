"""Internals of transformers, PEFT, bitsandbytes and the Hub's client that the engine touches: all of them, and here
alone.

Each place falls back to plain behaviour, or refuses with a sentence, where a new version has other internals;
tests/unit/test_engine_compat.py guards each. Importing this module loads nothing heavy."""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError

if TYPE_CHECKING:
    import bitsandbytes as bnb
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "BITSANDBYTES_NOWELCOME": "1",
    # bitsandbytes would load torch's compiler for kernels that are seldom called here: a fifth of the time that all
    # imports take.
    "TORCHDYNAMO_DISABLE": "1",
}
UNHELPFUL = (
    "Failed to load CPU gemm_4bit_forward",  # bitsandbytes on AVX512-BF16 without `kernels`, which is on purpose
    "Xet Storage is enabled for this repo",  # we download over plain HTTP, which can be stopped
)


class _Unhelpful(logging.Filter):
    """Drops lines that read like a fault and are none."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(UNHELPFUL)


def quiet() -> None:
    """Keeps the libraries' bars and chatter off standard error. Works best before they are imported; later calls help
    too.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("bitsandbytes.backends.cpu.ops", "huggingface_hub.file_download"):
        logger = logging.getLogger(name)
        if not any(isinstance(item, _Unhelpful) for item in logger.filters):
            logger.addFilter(_Unhelpful())
    # PEFT corrects this setting itself for GPT-2; transformers calls its own old name.
    warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    if "transformers" in sys.modules:  # it reads the variables once, at import
        from transformers.utils import logging as chatter

        chatter.set_verbosity_error()
        chatter.disable_progress_bar()


def keep_packed(model: PreTrainedModel) -> PreTrainedModel:
    """Keeps 4-bit weights as they are.

    On processors with AVX512-BF16, bitsandbytes repacks them in place at the first forward pass in evaluation mode,
    after which a training step fails, or silently has no gradient (bitsandbytes 0.50 nn/modules.py,
    Linear4bit.forward). Raises ModelError where it may do so by another switch than the one known here."""
    import bitsandbytes as bnb

    for module in model.modules():
        if not isinstance(module, bnb.nn.Linear4bit):
            continue
        if not hasattr(module, "support_avx512bf16_for_cpu") and repacks():
            raise ModelError(
                f"bitsandbytes {bnb.__version__} may repack 4-bit weights on this processor, which breaks training;"
                " install the version in requirements.txt, or choose fp16."
            )
        module.support_avx512bf16_for_cpu = False
    return model


def repacks() -> bool:
    """Whether bitsandbytes repacks 4-bit weights on this processor."""
    from bitsandbytes import functional

    return bool(getattr(functional, "has_avx512bf16", lambda: False)())


def dequantized_weight(layer: bnb.nn.Linear4bit) -> torch.Tensor | None:
    """What a 4-bit layer multiplies by (out, in), in its compute dtype; None where bitsandbytes keeps what belongs to
    its packed weights in another way than the one known here: such a layer can answer only by its own forward pass.
    """
    from bitsandbytes import functional

    packed: Any = layer.weight
    dtype = getattr(layer, "compute_dtype", None)
    try:
        state = copy.copy(packed.quant_state)
        known = dtype is not None and state.dtype is not None
        state.dtype = dtype  # which it dequantizes to
        restored: torch.Tensor = functional.dequantize_4bit(packed.data, state)
    except (AttributeError, TypeError):
        return None
    is_whole = known and restored.dtype == dtype and restored.shape == (layer.out_features, layer.in_features)
    return restored.contiguous() if is_whole else None


def quantization_constants(module: nn.Module) -> Iterator[torch.Tensor]:
    """The tensors that a quantized layer keeps out of sight of `parameters()` and `buffers()`; none of another layer,
    and none where bitsandbytes keeps them elsewhere: they are then missing in what is measured.
    """
    import bitsandbytes as bnb
    import torch

    weight = getattr(module, "weight", None)
    if isinstance(module, bnb.nn.Linear8bitLt):
        tensors = [getattr(weight, "SCB", None), getattr(weight, "CB", None)]
    else:
        state = getattr(weight, "quant_state", None)
        second = getattr(state, "state2", None)
        tensors = [
            getattr(state, "absmax", None),
            getattr(state, "code", None),
            getattr(state, "offset", None),
            getattr(second, "absmax", None),
            getattr(second, "code", None),
        ]
    yield from (item for item in tensors if isinstance(item, torch.Tensor))


def mark_as_4bit(model: Any) -> None:
    """PEFT looks at this attribute before it takes its 4-bit LoRA layer; training_step.FrozenLinear needs it."""
    model.is_loaded_in_4bit = True


def classifier_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """The class that transformers builds as a text classifier from this configuration; None where there is none."""
    from transformers import AutoModelForSequenceClassification

    known: Any = getattr(AutoModelForSequenceClassification, "_model_mapping", None)
    if known is None:
        raise _changed("how transformers finds a classifier's class")
    kind = known.get(type(config), None)
    return kind[0] if isinstance(kind, tuple) else kind


def names_left_dense(model: PreTrainedModel) -> list[str]:
    """The modules that transformers leaves out of quantization by itself (output embeddings, the last module)."""
    try:
        from transformers.quantizers.base import get_keys_to_not_convert
    except ImportError:
        raise _changed("which layers transformers leaves dense") from None
    return sorted(get_keys_to_not_convert(model))


def kept_in_fp32(model: PreTrainedModel) -> list[str]:
    """Names of modules that the loader keeps in FP32 by itself, such as T5's `wo`."""
    return sorted(getattr(model, "_keep_in_fp32_modules", None) or ())


def is_converted(name: str, skip: Sequence[str]) -> bool:
    """Whether transformers replaces the linear layer `name` by a quantized one, given the modules to skip."""
    try:
        from transformers.quantizers.quantizers_utils import should_convert_module
    except ImportError:
        raise _changed("which layers transformers quantizes") from None
    return bool(should_convert_module(name, list(skip)))


def set_lora_dropout(module: nn.Module, dropout: float) -> None:
    """The dropout of a fresh LoRA layer, which PEFT keeps by the adapter's name; other modules are left as they are."""
    from peft.tuners.lora import LoraLayer
    from torch import nn

    if isinstance(module, LoraLayer):
        module.lora_dropout["default"] = nn.Dropout(dropout)


def _changed(what: str) -> ModelError:
    import transformers

    return ModelError(
        f"This transformers version ({transformers.__version__}) has changed {what}; install the version in"
        " requirements.txt."
    )


class _PlainHttp:
    """The Hub client's switches, changed for as long as at least one download runs: they are the whole process's."""

    CHANGES = ("HF_HUB_DISABLE_XET", "HF_HUB_DOWNLOAD_TIMEOUT")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._downloads = 0
        self._before: dict[str, Any] = {}

    @contextmanager
    def __call__(self, timeout_seconds: float) -> Iterator[None]:
        """Without Xet, whose native threads cannot be stopped from Python, and with a short wait for silence. A client
        without these switches downloads in its own way.
        """
        from huggingface_hub import constants

        with self._lock:
            self._downloads += 1
            if self._downloads == 1:
                self._before = {name: getattr(constants, name) for name in self.CHANGES if hasattr(constants, name)}
                for name, value in zip(self.CHANGES, (True, int(timeout_seconds)), strict=True):
                    if name in self._before:
                        setattr(constants, name, value)
        try:
            yield
        finally:
            with self._lock:
                self._downloads -= 1
                if not self._downloads:
                    for name, value in self._before.items():
                        setattr(constants, name, value)


plain_http = _PlainHttp()
