"""Each family of models, from a base saved without a head: NF4 load, three steps, save, reload under another seed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qlora_demo.core.cancellation import Call, call_here
from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import AdapterError, ModelError, TrainingError
from qlora_demo.core.records import Event
from qlora_demo.engine.classify.classifier import Classifier
from qlora_demo.engine.data.dataset import Reviews
from qlora_demo.engine.models import modeling, sources
from qlora_demo.engine.models.device import choose_device
from qlora_demo.engine.train import batches, trainer
from qlora_demo.engine.train import run as training
from qlora_demo.jobs import fresh_process
from tests.families import family_case, make_family

LABELS = [str(star) for star in range(1, 6)]
TEXTS = [
    "I love this product, the best purchase of the year!",
    "Broke after two days. Terrible.",
    "It is okay.",
    "The size was too small and the color is not as shown, so I returned it and asked for the money.",
    "five stars",
]
CASES = [
    family_case("bert", True),
    *map(family_case, ("gpt2", "bert", "distilbert", "roberta", "llama", "qwen2", "qwen3", "t5", "modernbert")),
]


def write_reviews(path: Path, rows: int = 60) -> Path:
    lines = [{"text": f"{TEXTS[i % 5]} number {i}", "label": 1 + i % 5} for i in range(rows)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


@pytest.mark.parametrize(("family", "odd"), CASES)
def test_three_steps_and_back(family: str, odd: bool, tmp_path: Path) -> None:
    source = sources.resolve(str(make_family(family, tmp_path / "base", odd=odd)))
    # float32 throughout: what is tested is what is saved, not the rounding of bfloat16.
    device = replace(choose_device("cpu"), compute_dtype="float32")
    torch.manual_seed(1)
    base = modeling.load_base(source, LABELS, "nf4-dq", device)
    model = modeling.attach_lora(base, rank=4, alpha=8, dropout=0, targets="all-linear")
    with modeling.as_base(model, True):
        untrained = modeling.forward(model, base.tokenizer, TEXTS, 64)
    take_steps(model, base, 3)
    tuned = modeling.forward(model, base.tokenizer, TEXTS, 64)
    assert (tuned - untrained).abs().max() > 1e-3, "three steps changed nothing"

    note = modeling.AdapterNote(
        str(source.folder), source.base_name, "", LABELS, True, "nf4-dq", "float32", 64, base.tokenizer.pad_token_id
    )
    modeling.save_adapter(model, base.tokenizer, note, tmp_path / "adapter")
    torch.manual_seed(987_654)
    back = modeling.load_adapter(tmp_path / "adapter", device)
    again = modeling.forward(back.model, back.tokenizer, TEXTS, 64)
    assert (again - tuned).abs().max() <= 1e-5
    with modeling.as_base(back.model, True):
        assert (modeling.forward(back.model, back.tokenizer, TEXTS, 64) - untrained).abs().max() <= 1e-5, (
            "the untrained head was lost"
        )
    alone = torch.cat([modeling.forward(back.model, back.tokenizer, [text], 64) for text in TEXTS])
    assert (alone - again).abs().max() <= 1e-4, "a review scores otherwise alone than in a padded batch"


def take_steps(model, base, steps: int) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batch = base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    loss = batches.loss_over(5, 0, True)
    model.train()
    for _ in range(steps):
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        loss(outputs, torch.arange(5)).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()


def run(tmp_path: Path, should_stop=lambda: False, call: Call = call_here, **settings) -> tuple[str, list[Event]]:
    events: list[Event] = []
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    if "model" not in settings:
        settings["model"] = str(make_family("gpt2", tmp_path / "base"))
    if "data" not in settings:
        settings["data"] = str(write_reviews(tmp_path / "reviews.jsonl"))
    sizes = {"batch_size": 8, "max_steps": 6, "evaluations": 2, "log_every": 2, "max_length": 32, "rank": 4}
    config = RunConfig.read({**sizes, **settings})
    return training.train(config, folder, events.append, should_stop, call=call), events


def test_a_whole_run(tmp_path: Path) -> None:
    state, events = run(tmp_path, call=fresh_process.call)
    assert state == "done"
    # Every second step, and the checkpoint's at 3: a resumed run's loss must begin where this one's mean begins anew.
    assert [e.step for e in events if e.event == "step"] == [1, 2, 3, 4, 6]
    judged = [(e.step, e.split) for e in events if e.event == "evaluation"]
    at_ends = [(0, "validation"), (0, "test"), (3, "validation"), (6, "validation"), (6, "validation"), (6, "test")]
    assert judged == at_ends
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["reload"]["max_logit_difference"] <= 0.05
    assert report["data"]["rows"]["train"] == 60 - report["data"]["rows"]["validation"] - report["data"]["rows"]["test"]
    assert {"majority", "tfidf-logistic-regression"} == set(report["baselines"])
    found = Classifier(str(tmp_path / "run" / "adapter")).classify(TEXTS)
    assert all(abs(sum(p.probabilities.values()) - 1) < 1e-6 and 1 <= p.expected_stars <= 5 for p in found)


@pytest.mark.slow
def test_a_whole_run_of_t5(tmp_path: Path) -> None:
    """Its evaluations hand out more than logits."""
    state, events = run(tmp_path, model=str(make_family("t5", tmp_path / "t5")))
    judged = [e.step for e in events if e.event == "evaluation" and e.split == "validation"]
    assert state == "done" and judged == [0, 3, 6, 6]


def test_every_step_tells_its_own_reviews(tmp_path: Path) -> None:
    """Batches are made one ahead: counted there, the last step of an epoch had none."""
    _, events = run(tmp_path, max_steps=0, epochs=2, log_every=1)
    steps = [event for event in events if event.event == "step"]
    assert len(steps) >= 8 and all(step.reviews_per_second > 0 and step.tokens_per_second > 0 for step in steps)


def test_stop_keeps_a_usable_adapter(tmp_path: Path) -> None:
    asked = iter([False] * 3 + [True] * 1000)
    state, events = run(tmp_path, should_stop=lambda: next(asked), max_steps=50)
    assert state == "stopped"
    assert max(e.step for e in events if e.event == "step") < 50
    assert Classifier(str(tmp_path / "run" / "adapter")).classify(["I love it"])[0].label in LABELS


def test_a_lost_head_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = modeling.save_adapter

    def forgetful(model, tokenizer, note, folder):
        saved(model, tokenizer, note, folder)
        path = folder / "adapter_model.safetensors"
        kept = {name: weight for name, weight in load_file(path).items() if "score" not in name}
        save_file(kept, path, metadata={"format": "pt"})

    monkeypatch.setattr(modeling, "save_adapter", forgetful)
    with pytest.raises(AdapterError, match=r"does not come back the same|could not be loaded"):
        run(tmp_path, call=fresh_process.call)
    assert not (tmp_path / "run" / "adapter").exists()


@pytest.mark.parametrize("accumulation", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_accumulation_changes_neither_loss_nor_gradient(tmp_path: Path, accumulation: int) -> None:
    _, whole = run(tmp_path, batch_size=8, accumulation=1, max_steps=1)
    (tmp_path / "parts").mkdir()
    same = {"model": str(tmp_path / "base"), "data": str(tmp_path / "reviews.jsonl"), "max_steps": 1}
    _, parts = run(tmp_path / "parts", batch_size=8 // accumulation, accumulation=accumulation, **same)
    one, many = (next(e for e in events if e.event == "step") for events in (whole, parts))
    # The Trainer's samplers group other reviews together, so the batches differ a little; four times the loss would not
    # pass.
    assert many.loss == pytest.approx(one.loss, rel=0.15)
    assert many.grad_norm < 2 * one.grad_norm


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = lambda labels, count, *_: torch.full((len(labels), count), float("nan"))  # noqa: E731
    monkeypatch.setattr(batches, "star_targets", nothing)
    with pytest.raises(TrainingError, match="The loss became nan at step 1; lower the learning rate"):
        run(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"good {i}", "label": 5}) for i in range(40)))
    with pytest.raises(TrainingError, match="1 different labels"):
        run(tmp_path, data=str(path))


def test_unknown_targets_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no linear layer called 'query'"):
        run(tmp_path, targets="query")


def test_smoothing_goes_to_neighbouring_stars() -> None:
    found = batches.star_targets(torch.tensor([0, 2]), 5, 0.2, True)
    np.testing.assert_allclose(found, [[0.8, 0.2, 0, 0, 0], [0, 0.1, 0.8, 0.1, 0]], atol=1e-7)
    classes = batches.star_targets(torch.tensor([1]), 3, 0.2, False)
    np.testing.assert_allclose(classes, [[0.1, 0.8, 0.1]], atol=1e-7)


def test_loss_divides_by_the_whole_accumulated_batch() -> None:
    class Outputs:
        logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])

    loss, labels = batches.loss_over(2, 0, True), torch.tensor([0, 1])
    assert loss(Outputs, labels, 8) == pytest.approx(loss(Outputs, labels) / 4)


def test_reviews_keep_order_and_length() -> None:
    reviews = Reviews(["aaa", "b", "cc"], [0, 1, 2])
    assert trainer._by_length(reviews) == Reviews(["b", "cc", "aaa"], [1, 2, 0])


def test_batches_hold_like_lengths_in_random_order() -> None:
    lengths = [5 + (7 * i) % 90 for i in range(330)]
    sampler = batches.LikeLengths(lengths, 10, seed=3)
    order = list(sampler)
    assert sorted(order) == list(range(330)) and order == list(sampler), "each review once, and the same again"
    cut = [[lengths[i] for i in order[start : start + 10]] for start in range(0, 330, 10)]
    assert max(map(max, cut)) in cut[0], "the longest batch comes first"
    spread = [max(batch) - min(batch) for batch in cut]
    assert np.mean(spread) < 15, "batches of unlike length pad for nothing"
    means = [np.mean(batch) for batch in cut]
    # transformers' own sampler falls from long to short within a group, and correlates with the step by nearly -1.
    assert abs(np.corrcoef(means[:16], range(16))[0, 1]) < 0.7
    sampler.set_epoch(1)
    assert list(sampler) != order
    assert list(batches.LikeLengths([3, 1], 10, seed=0)) in ([0, 1], [1, 0]), "fewer reviews than a batch"
