"""The card of an adapter, written from its report alone: no number that was not measured.

Text only; it knows neither torch nor the Hub's interface.
"""

from __future__ import annotations

from typing import Any

METRICS = ("accuracy", "macro_f1", "mae_stars", "within_one", "quadratic_kappa")


def write_card(report: dict[str, Any], base_name: str) -> str:
    """README.md of an adapter folder: metadata that the Hub understands, how it was trained and how good it is."""
    config, data, training = report["config"], report["data"], report["training"]
    test = report["final"]["test"]
    rows = [("this adapter", test), ("untrained head", report["base"]), *report["baselines"].items()]
    table = "\n".join(f"| {name} | " + " | ".join(_measured(m, metric) for metric in METRICS) + " |" for name, m in rows)
    # A folder on somebody's machine is no base that the Hub knows, and its path is nobody's business.
    base = base_name if base_name.count("/") == 1 and not base_name.startswith("/") else ""
    header = "\n".join(
        [
            "---",
            *([f"base_model: {base}"] if base else []),
            "library_name: peft",
            "pipeline_tag: text-classification",
            "tags:",
            "- qlora",
            "- lora",
            "- text-classification",
            "---",
        ]
    )
    return f"""{header}

# Star ratings by QLoRA on {base or "a local model"}

A LoRA adapter (rank {config["rank"]}, alpha {config["alpha"]:g}) with a trained classification head, learnt on a base frozen at
{config["precision"]}: {report["parameters"]["trainable"]:,} trainable of {report["parameters"]["all"]:,} parameters.

## How good it is

{test["rows"]:,} test reviews of `{data["name"]}`, none of them trained on:

| | accuracy | macro-F1 | mean error, stars | within one star | quadratic kappa |
|---|---|---|---|---|---|
{table}
{_sureness(test, report.get("calibration"))}
## How it was made

{data["rows"]["train"]:,} reviews, {training["steps"]} steps in {training["seconds"]:.0f} s on {report["environment"]["device_name"]},
learning rate {config["learning_rate"]:g}, batch {config["batch_size"]} x {config["accumulation"]}, seed {config["seed"]};
kept: {report["kept"]}.
Loaded again in a fresh process under another seed, its logits differed by at most {report["reload"]["max_logit_difference"]:.2g}.

`report.json` beside this file has every setting, version and number.
"""


def _measured(metrics: dict[str, Any], metric: str) -> str:
    """A number of the table with its interval; reports of older runs have none."""
    ends = (metrics.get("intervals") or {}).get(metric)
    return _number(metrics[metric]) + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def _sureness(test: dict[str, Any], scaled: dict[str, Any] | None) -> str:
    """What the intervals are, and how far the probabilities can be believed; "" where an older report says neither."""
    lines = []
    if test.get("intervals"):
        lines.append("In parentheses: 95 % of a bootstrap over the test reviews; another seed of the training is not in it.")
    if test.get("calibration"):
        line = f"Expected calibration error (15 bins): {test['calibration']['ece']:.3f}"
        if scaled:
            line += f"; {scaled['ece_after']:.3f} with the logits divided by {scaled['temperature']:.3f}, fitted on the validation reviews"
        lines.append(f"{line}.")
    return "".join(f"\n{line}\n" for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
