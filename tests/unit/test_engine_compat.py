"""Each place where the engine touches internals of other libraries: they are as we know them, and where they are not,
what we do is plain or refused in a sentence."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes import functional
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    T5Config,
    ViTConfig,
)
from transformers.quantizers import base, quantizers_utils

from qlora_demo.core.errors import ModelError
from qlora_demo.engine import quiet
from qlora_demo.engine.classify.restored import Restored, restore_weights
from qlora_demo.engine.models import compat

TINY = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32, pad_token_id=0, num_labels=3)


def test_lines_that_read_like_a_fault_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    quiet()
    logger = logging.getLogger("huggingface_hub.file_download")
    assert sum(isinstance(item, compat._Unhelpful) for item in logger.filters) == 1, "once, however often it is called"
    with caplog.at_level(logging.WARNING):
        logger.warning("Xet Storage is enabled for this repo, but …")
        logger.warning("Something else")
    assert [record.getMessage() for record in caplog.records] == ["Something else"]
    assert os.environ["TORCHDYNAMO_DISABLE"] == "1"


class TestRepacking:
    """bitsandbytes' switch that repacks 4-bit weights in evaluation mode."""

    def test_it_is_off(self) -> None:
        model = nn.Sequential(bnb.nn.Linear4bit(8, 8))
        assert hasattr(model[0], "support_avx512bf16_for_cpu"), "bitsandbytes has another switch now"
        model[0].support_avx512bf16_for_cpu = True
        compat.keep_packed(model)  # type: ignore[arg-type]
        assert model[0].support_avx512bf16_for_cpu is False

    @pytest.mark.parametrize("repacks", [True, False])
    def test_an_unknown_switch_is_refused_where_it_matters(
        self, monkeypatch: pytest.MonkeyPatch, repacks: bool
    ) -> None:
        model = nn.Sequential(bnb.nn.Linear4bit(8, 8))
        del model[0].support_avx512bf16_for_cpu
        monkeypatch.setattr(functional, "has_avx512bf16", lambda: repacks)
        if repacks:
            with pytest.raises(ModelError, match="may repack 4-bit weights on this processor"):
                compat.keep_packed(model)  # type: ignore[arg-type]
        else:
            compat.keep_packed(model)  # type: ignore[arg-type]


class TestDequantizing:
    """bitsandbytes' state of a packed weight, which a restored copy of a network is made from."""

    @pytest.fixture
    def model(self) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(bnb.nn.Linear4bit(64, 32, compute_dtype=torch.float32, quant_type="nf4")).to("cpu")

    def test_it_is_what_the_layer_multiplies_by(self, model: nn.Sequential) -> None:
        weight = compat.dequantized_weight(model[0])
        assert weight is not None and weight.shape == (32, 64) and weight.dtype == torch.float32
        x = torch.randn(3, 64)
        torch.testing.assert_close(x @ weight.T + model[0].bias, model[0](x))
        assert restore_weights(model) == 1 and isinstance(model[0], Restored)

    @pytest.mark.parametrize("change", ["no state", "no dtype in it", "no function", "another shape"])
    def test_a_layer_with_other_internals_answers_by_its_own_pass(
        self, model: nn.Sequential, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        layer, x = model[0], torch.randn(3, 64)
        with torch.no_grad():
            expected, state = layer(x), layer.weight.quant_state
        with monkeypatch.context() as changed:
            if change == "no state":
                changed.delattr(layer.weight, "quant_state")
            elif change == "no dtype in it":
                changed.delattr(state, "dtype")
            elif change == "no function":
                changed.delattr(functional, "dequantize_4bit")
            else:
                changed.setattr(functional, "dequantize_4bit", lambda packed, state: torch.zeros(64, 32))
            assert compat.dequantized_weight(layer) is None
            assert restore_weights(model) == 0 and model[0] is layer
        with torch.no_grad():
            assert torch.equal(model[0](x), expected), "it was left as it was"


def test_the_constants_of_quantized_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """NF4 with double quantization of 4096 weights: 64 constants in a byte each, one more for them, their mean, two
    tables."""
    layer = bnb.nn.Linear4bit(64, 64, bias=False, compress_statistics=True, quant_type="nf4").to("cpu")
    sizes = [(item.numel(), item.element_size()) for item in compat.quantization_constants(layer)]
    assert sizes == [(64, 1), (16, 4), (1, 4), (1, 4), (256, 4)]
    assert list(compat.quantization_constants(nn.Linear(4, 4))) == []
    monkeypatch.delattr(layer.weight, "quant_state")
    assert list(compat.quantization_constants(layer)) == [], "no error: what is measured lacks them"


def test_the_class_of_a_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compat.classifier_class(TINY) is GPT2ForSequenceClassification
    assert compat.classifier_class(ViTConfig()) is None
    monkeypatch.delattr(AutoModelForSequenceClassification, "_model_mapping")
    with pytest.raises(ModelError, match="has changed how transformers finds a classifier's class"):
        compat.classifier_class(TINY)


def test_what_transformers_leaves_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT2ForSequenceClassification(TINY)
    assert compat.names_left_dense(model) == ["score"]
    assert compat.is_converted("a.b", ["c$"]) and not compat.is_converted("a.b", ["b"])
    with torch.device("meta"):
        t5 = AutoModelForSequenceClassification.from_config(T5Config(vocab_size=9, d_model=8, d_ff=8, num_layers=1))
    assert compat.kept_in_fp32(t5) == ["wo"]
    monkeypatch.delattr(base, "get_keys_to_not_convert")
    monkeypatch.delattr(quantizers_utils, "should_convert_module")
    refused: list[Callable[[], object]] = [lambda: compat.names_left_dense(model), lambda: compat.is_converted("a", [])]
    for call in refused:
        with pytest.raises(ModelError, match=r"This transformers version \(.*\) has changed which layers"):
            call()


def test_peft_takes_its_4_bit_layer_where_the_model_says_so() -> None:
    from peft.tuners.lora.bnb import Linear4bit

    model = GPT2ForSequenceClassification(TINY)
    model.transformer.h[0].mlp.c_fc = bnb.nn.Linear4bit(16, 64)
    compat.mark_as_4bit(model)
    tuned = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["c_fc"]))
    layers = [module for module in tuned.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 1
    for module in tuned.modules():
        compat.set_lora_dropout(module, 0.25)
    assert layers[0].lora_dropout["default"].p == 0.25


class TestPlainHttp:
    """The Hub client's switches belong to the whole process, and downloads overlap."""

    BEFORE = (False, 17)

    @pytest.fixture(autouse=True)
    def _client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", self.BEFORE[0])
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", self.BEFORE[1])

    def now(self) -> tuple[bool, int]:
        return constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DOWNLOAD_TIMEOUT

    def test_two_at_once_leave_the_client_as_it_was(self) -> None:
        """The first to begin is the first to end: each on its own would put back what the other had set."""
        began, ended = threading.Event(), threading.Event()

        def first() -> None:
            with compat.plain_http(5.0):
                began.set()
                ended.wait(5)

        thread = threading.Thread(target=first)
        thread.start()
        began.wait(5)
        with compat.plain_http(5.0):
            ended.set()
            thread.join(5)
            assert self.now() == (True, 5), "the second still runs"
        assert self.now() == self.BEFORE

    def test_a_failed_download_leaves_it_as_it_was(self) -> None:
        with pytest.raises(OSError, match="gone"), compat.plain_http(5.0):
            raise OSError("gone")
        assert self.now() == self.BEFORE

    def test_a_client_without_the_switches_downloads_in_its_own_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(constants, "HF_HUB_DISABLE_XET")
        with compat.plain_http(5.0):
            assert constants.HF_HUB_DOWNLOAD_TIMEOUT == 5 and not hasattr(constants, "HF_HUB_DISABLE_XET")
        assert not hasattr(constants, "HF_HUB_DISABLE_XET") and self.BEFORE[1] == constants.HF_HUB_DOWNLOAD_TIMEOUT
