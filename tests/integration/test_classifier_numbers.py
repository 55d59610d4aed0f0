"""The shipped adapter gives the same numbers on every way to it; dial, precisions, base and a lesson are what they
say."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from gradio_client import Client
from torch import nn
from transformers.pytorch_utils import Conv1D

from qlora_demo.core.errors import AdapterError, DataError, SettingsError
from qlora_demo.core.records import Prediction
from qlora_demo.engine.classify import classifier as inference
from qlora_demo.engine.classify import teaching
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.classify.metrics import softmax
from qlora_demo.engine.classify.restored import Restored, restore_weights
from qlora_demo.engine.data import dataset as reviews_of
from qlora_demo.engine.models import modeling
from qlora_demo.engine.models.device import cpu_multiplies
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services
from qlora_demo.services.classify import ClassifyService
from tests.conftest import Cli
from tests.serving import App

RESTORED = "qlora_demo.engine.classify.restored"
FP32, BF16 = 1e-5, 0.01
ODD = ["Good.", "<script>alert(1)</script> \u202e $x^2$ 👍🏽", "bad " * 300]
TEXTS = [*reviews_of.load("sample").splits["test"].texts[:24], *ODD]
SARCASM = "Oh wonderful, another charger that works for exactly one week."


def shares(predictions: list[Prediction]) -> np.ndarray:
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> ClassifyService:
    return Services(Store(tmp_path_factory.mktemp("runs"))).classify


@pytest.fixture(scope="module")
def packed() -> Classifier:
    """As the command line loads it: the 4-bit weights as they are."""
    return Classifier("sample", on_cpu=True)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", FP32), ("", BF16)])
def test_one_by_one_in_a_batch_and_from_many_threads(
    classifiers: ClassifyService, precision: str, tolerance: float
) -> None:
    classifier = classifiers.classifier("sample", precision)
    batch = shares(classifier.classify(TEXTS))
    one_by_one = shares([classifier.classify([text])[0] for text in TEXTS])
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        asked = list(pool.map(lambda text: classifiers.classify_both(text, precision=precision), TEXTS))
    assert [tuned.text for tuned, _ in asked] == TEXTS
    assert np.abs(one_by_one - batch).max() <= tolerance
    tuned, base = shares([tuned for tuned, _ in asked]), shares([base for _, base in asked])
    assert np.abs(tuned - batch).max() <= tolerance
    assert np.abs(base - shares(classifier.classify(TEXTS, base=True))).max() <= tolerance
    assert np.abs(tuned - base).max() > 0.5, "base and tuned are not one"
    assert [tuned.truncated for tuned, _ in asked] == [text.startswith("bad bad") for text in TEXTS]


def test_the_page_command_line_and_http_give_the_same_numbers(app: App, classifiers: ClassifyService, cli: Cli) -> None:
    texts = TEXTS[-5:]
    status, out, err = cli("classify", "--json", "--adapter", "sample", *texts)
    assert status == 0, err
    told = np.array([list(found["probabilities"].values()) for found in json.loads(out)])
    client = Client(app.url, verbose=False, httpx_kwargs={"timeout": 60})
    # At once: the queue answers them together.
    jobs = [client.submit(text, "sample", api_name="/classify") for text in texts]
    http = np.array([list(job.result(60)["probabilities"].values()) for job in jobs])
    page = shares([classifiers.classify(text) for text in texts])
    assert np.abs(told - page).max() <= BF16 and np.abs(http - page).max() <= BF16


def test_restored_weights_are_those_that_a_pass_multiplies_by(classifiers: ClassifyService, packed: Classifier) -> None:
    restored = classifiers.classifier()
    assert restored.restored and not packed.restored and restored.ledger == packed.ledger
    native = cpu_multiplies(getattr(torch, restored.note.compute_dtype))
    for base in (False, True):
        one, other = (softmax(classifier.logits(TEXTS, base)) for classifier in (restored, packed))
        assert np.abs(one - other).max() <= (0 if native else BF16), "to the last bit where the processor has the dtype"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_processor_without_the_dtype_multiplies_its_numbers_in_fp32(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64).to(dtype), torch.randn(96), torch.randn(40, 64, requires_grad=True)
    found = []
    for native in (True, False):
        monkeypatch.setattr(f"{RESTORED}.cpu_multiplies", lambda dtype, native=native: native)
        layer = Restored(weight, bias)
        assert layer.weight.dtype == (dtype if native else torch.float32) and (layer.weight.to(dtype) == weight).all()
        answer = layer(x)
        (gradient,) = torch.autograd.grad(answer.square().sum(), x)
        assert answer.dtype == gradient.dtype == torch.float32
        assert (answer.to(dtype).float() == answer).all(), "rounded to the dtype"
        found.append((answer.detach(), gradient))
    last_bit = torch.finfo(dtype).eps
    for one, other in zip(*found, strict=True):
        assert (one != other).float().mean() < 0.05
        assert torch.allclose(one, other, rtol=2 * last_bit, atol=last_bit * float(one.abs().max()))


@pytest.mark.parametrize("native", [True, False], ids=["native", "not native"])
def test_dense_layers_of_a_dtype_that_the_processor_lacks(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{RESTORED}.cpu_multiplies", lambda dtype: native or dtype == torch.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), Conv1D(32, 96), nn.Linear(32, 5)).half()
    model.append(nn.Linear(5, 5))
    x = torch.randn(40, 64).half()
    with torch.inference_mode():
        before = model[:4](x)
        assert restore_weights(model, ["3"]) == 0, "none of them is a 4-bit one"
        after = model[:4](x)
        assert after.dtype == before.dtype == torch.float16 and torch.allclose(before, after, rtol=1e-2, atol=1e-2)
        with torch.autocast("cpu", torch.bfloat16):
            assert model[0](x.float()).dtype == (torch.bfloat16 if native else torch.float16), "the dtype of the pass"
    restored = [not native, False, not native, False, False]  # FP32 and what is kept stay
    assert [type(layer) is Restored for layer in model] == restored


@pytest.mark.parametrize(("precision", "layers"), [("", 36), ("fp16", 37)])  # in NF4 the pooler stays FP32
def test_a_processor_without_bf16_gives_the_same_answers(
    precision: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{RESTORED}.cpu_multiplies", lambda dtype: dtype == torch.float32)
    quick, plain = (Classifier("sample", on_cpu=True, restored=it, precision=precision) for it in (True, False))
    assert sum(isinstance(module, Restored) for module in quick._loaded.model.modules()) == layers
    for base in (False, True):
        one, other = (softmax(classifier.logits(TEXTS[-5:], base)) for classifier in (quick, plain))
        assert np.abs(one - other).max() <= BF16
    assert quick.base_check(TEXTS[0]) == 0, "checked against a base that is computed the same way"
    assert quick.restored is (precision == "") and quick.ledger == plain.ledger


@pytest.mark.parametrize("precision", ["", "fp32", "fp16"])
def test_the_base_is_the_base(classifiers: ClassifyService, precision: str) -> None:
    assert classifiers.base_check(TEXTS[0], precision=precision) <= (FP32 if precision == "fp32" else BF16)


def test_the_base_check_finds_a_base_that_is_none(packed: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = packed.score([TEXTS[0]])
    monkeypatch.setattr(packed, "score", lambda *_, **__: tuned)
    assert packed.base_check(TEXTS[0]) > 0.5


def test_the_dial(classifiers: ClassifyService, packed: Classifier) -> None:
    text = [TEXTS[0]]
    logits = {scale: packed.score(text, scale=scale)[0].logits for scale in (0, 0.5, 1, 2)}
    assert (logits[1] == packed.score(text)[0].logits).all(), "a turn of the dial leaves nothing behind"
    assert (packed.score(text, base=True, scale=2)[0].logits == packed.score(text, base=True)[0].logits).all()
    with packed.using() as (model, tokenizer, length), torch.inference_mode():
        # 0 by another way: LoRA's second matrix is zero, the trained head stays.
        kept = {name: value.clone() for name, value in model.named_parameters() if "lora_B" in name}
        for name, value in model.named_parameters():
            if name in kept:
                value.zero_()
        by_hand = modeling.forward(model, tokenizer, text, length).numpy()[0]
        for name, value in model.named_parameters():
            if name in kept:
                value.copy_(kept[name])
    assert np.allclose(by_hand, logits[0], atol=FP32)
    assert not np.allclose(by_hand, packed.score(text, base=True)[0].logits, atol=0.1)
    # Turned up, it is surer of what it learnt, and the line keeps the settings apart.
    asked = {scale: classifiers.classify("I love it!", scale=scale).probabilities["5 stars"] for scale in (0, 1, 2)}
    assert asked[0] < asked[1] and abs(asked[1] - classifiers.classify("I love it!").probabilities["5 stars"]) <= BF16
    with pytest.raises(SettingsError, match=r"scale is 2\.5; give a number from 0 to 2"):
        packed.score(text, scale=2.5)


def test_two_precisions_side_by_side(classifiers: ClassifyService) -> None:
    done: list[float] = []
    found = classifiers.compare("fp32", rows=48, on_progress=done.append)
    assert found.rows == 48 and done[-1] == 1.0 and done == sorted(done)
    assert 0.8 < found.same_label <= 1 and 0 < found.largest_difference < 0.6
    trained, dense = found.sides
    assert (trained.precision, dense.precision) == ("nf4-dq", "fp32")
    assert dense.weights_bytes > 1.5 * trained.weights_bytes and min(trained.seconds, dense.seconds) > 0
    same = inference.compare(classifiers.classifier(), classifiers.classifier(), TEXTS)
    assert same.same_label == 1 and same.largest_difference == 0
    assert (
        inference.compare(classifiers.classifier(), classifiers.classifier(), TEXTS, should_stop=lambda: True).rows == 0
    )


@pytest.mark.slow
def test_a_lesson_is_learnt_by_a_copy_which_forgets_little(classifiers: ClassifyService) -> None:
    before = classifiers.classify(SARCASM)
    done: list[float] = []
    name, taught = classifiers.teach(SARCASM, "1 star", on_progress=done.append)
    assert taught.label == "1 star" and taught.steps == teaching.STEPS and done[-1] == 1.0
    assert taught.before == pytest.approx(before.probabilities, abs=BF16)
    assert taught.after["1 star"] > max(0.7, taught.before["1 star"] + 0.1)
    assert taught.held_out_after.accuracy is not None and taught.held_out_before.accuracy is not None
    assert taught.held_out_after.accuracy > taught.held_out_before.accuracy - 0.15 and taught.held_out_after.kept > 0.8
    # The copy can be asked, the shared one is as it was, and what is forgotten is gone.
    assert classifiers.classify(SARCASM, name).probabilities == pytest.approx(taught.after, abs=BF16)
    assert classifiers.classifier().classify([SARCASM])[0].probabilities == pytest.approx(
        before.probabilities, abs=BF16
    )
    weights = taught.weights()
    assert any("lora_B" in key for key in weights) and any("modules_to_save" in key for key in weights)
    classifiers.forget(name)
    with pytest.raises(AdapterError, match="teach it again"):
        classifiers.classify(SARCASM, name)


def test_a_lesson_that_is_stopped_or_wrong(classifiers: ClassifyService) -> None:
    for text, label, sentence in (
        (" ", "1 star", "is empty"),
        ("Good.", "6 stars", "no label '6 stars'; choose the right one of 1 star"),
    ):
        with pytest.raises(DataError, match=sentence):
            classifiers.teach(text, label)
    copy = Classifier("sample", on_cpu=True, restored=True)
    taught = teaching.teach(copy, SARCASM, 0, replayed=0, held_out=8, should_stop=lambda: True)
    assert taught.steps == 0 and taught.before == taught.after and taught.held_out_after.kept == 1


def test_who_uses_the_model_has_it_alone(packed: Classifier) -> None:
    with ThreadPoolExecutor(1) as pool:
        with packed.using(base=True, scale=0.5) as (model, tokenizer, length):
            waiting = pool.submit(packed.classify, [TEXTS[0]])
            assert length == 128 and tokenizer.pad_token_id == 0 and next(model.parameters()).device.type == "cpu"
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert shares(waiting.result(30)) == pytest.approx(shares(packed.classify([TEXTS[0]])), abs=FP32)
