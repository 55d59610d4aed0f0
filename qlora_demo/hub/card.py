"""The card of an adapter, written from its report and its run's events alone: no number that was not measured.

Text only; it knows neither torch nor where files lie. Whatever a user has written is shown and never interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.format import size
from ..core.names import BASELINES, METRICS
from .figures import Drawing
from .history import PinnedReview
from .loading import write_snippet
from .markdown import code_block, one_line, plain, table
from .metadata import AMAZON, SAMPLES, hub_base, hub_data, write_metadata
from .script import write_command

_HEAD = ("", *(title for title, _ in METRICS.values()))
_MOST_LABELS = 12  # of a confusion matrix that is still read
_PARTS = (
    ("weights", "weights_bytes"),
    ("quantization constants", "constants_bytes"),
    ("buffers", "buffers_bytes"),
    ("adapter and trained head", "adapter_bytes"),
    ("gradients", "gradients_bytes"),
    ("optimizer", "optimizer_bytes"),
    ("activations", "activations_bytes"),
    ("logits", "logits_bytes"),
    ("workspace", "workspace_bytes"),
    ("never there at once", "overlap_bytes"),
    ("allocator", "allocator_bytes"),
    ("in all", "total_bytes"),
)


def write_card(
    report: dict[str, Any],
    base_name: str,
    *,
    licence: str = "",
    repo: str = "",
    revision: str = "",
    max_length: int = 0,
    pinned: Sequence[PinnedReview] = (),
    figures: Sequence[Drawing] = (),
    script: str = "",
) -> str:
    """README.md of an adapter: metadata that the Hub understands, how good it is, how it was made, loaded and can be
    made again.

    licence: the Hub's name of it, "" = none chosen. repo: where it will lie; revision: the base's commit; max_length:
    in tokens, 0 = as the run was told. figures and script: files that lie beside the card. Raises HubError for a
    licence that is none."""
    base, config = hub_base(base_name), report["config"]
    method = "QLoRA" if str(config["precision"]).startswith("nf4") else "LoRA"
    what = "Star ratings" if report["data"].get("ordinal", True) else "Text labels"
    title = f"{what} by {method} on {base or 'a local model'}"
    sections = (
        write_metadata(report, base_name, title=repo.rpartition("/")[2] or title, licence=licence, revision=revision),
        f"# {title}",
        _summary(report, base, revision),
        _quality(report),
        _making(report),
        _measured_again(report.get("measured") or {}),
        _errors(report),
        "\n\n".join(f"![{plain(figure.alt)}]({figure.name})" for figure in figures),
        _pinned(pinned, report),
        _memory(report.get("memory") or {}),
        _loading(report, base_name, repo, revision, max_length),
        _repeating(report, base, script),
        _data(report),
        _limits(report, max_length),
    )
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _summary(report: dict[str, Any], base: str, revision: str) -> str:
    config, parameters, labels = report["config"], report["parameters"], report["data"].get("labels") or []
    at = f" at its commit `{one_line(revision)}`" if revision and base else ""
    named = f" It gives a review one of {len(labels)} labels: {', '.join(map(plain, labels))}." if labels else ""
    return (
        f"A LoRA adapter (rank {config['rank']}, alpha {config['alpha']:g}) with a trained classification head, learnt"
        f" on {f'[{base}](https://huggingface.co/{base})' if base else 'a local model'}{at}, frozen"
        f" at\n{config['precision']}: {parameters['trainable']:,} trainable of {parameters['all']:,}"
        f" parameters.{named}\n\nIt is for reviews like those it was trained on. It is not for judging people, and not"
        " for decisions that nobody looks at."
    )


def _quality(report: dict[str, Any]) -> str:
    data, test = report["data"], report["final"]["test"]
    rows = [("this adapter", test), ("untrained head", report["base"])]
    rows += [("the adapter it started from", report["start"])] if report.get("start") else []
    rows += [(BASELINES.get(name, plain(name)), found) for name, found in report["baselines"].items()]
    parts = [
        "## How good it is",
        f"{test['rows']:,} test reviews of {plain(data['name'])}, none of them trained on:",
        _metrics_table(rows),
        _sureness(test, report.get("calibration")),
    ]
    return "\n\n".join(part for part in parts if part)


def _measured_again(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of what the saved adapter was measured on after the run, whatever that was."""
    about = {
        "real reviews test": (
            " They are from shops and hotels, were never trained on, and are not part of this repository."
        ),
        "sample test": " Word counts learnt here from all training reviews of the sample.",
    }
    names, parts = {"adapter": "this adapter", **BASELINES}, []
    for name, found in measured.items():
        rows = [(names.get(who, plain(who)), metrics) for who, metrics in found.items()]
        parts.append(
            f"**{plain(name)}**, {found['adapter']['rows']:,} reviews.{about.get(name, '')}\n\n{_metrics_table(rows)}"
        )
    return "\n\n".join(["## Measured after the run", *parts]) if parts else ""


def _metrics_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return table(_HEAD, ([name, *(_measured(metrics, metric) for metric in METRICS)] for name, metrics in rows))


def _measured(metrics: Mapping[str, Any], metric: str) -> str:
    """A number of the table with its interval, where it has one."""
    ends = (metrics.get("intervals") or metrics.get("interval_95") or {}).get(metric)
    return _number(metrics.get(metric)) + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def _sureness(test: Mapping[str, Any], scaled: Mapping[str, Any] | None) -> str:
    """What the intervals are, and how far the probabilities can be believed; "" where an older report says neither."""
    lines = []
    if test.get("intervals"):
        lines.append(
            "In parentheses: 95 % of a bootstrap over the test reviews; another seed of the training is not in it."
        )
    if test.get("calibration"):
        line = f"Expected calibration error (15 bins): {test['calibration']['ece']:.3f}"
        if scaled:
            line += (
                f"; {scaled['ece_after']:.3f} with the logits divided by {scaled['temperature']:.3f}, fitted on the"
                " validation reviews"
            )
        lines.append(f"{line}.")
    return "\n\n".join(lines)


def _making(report: dict[str, Any]) -> str:
    config, data, training, proof = report["config"], report["data"], report["training"], report["reload"]
    asides = [
        "The run was stopped before its end." if report.get("stopped") else "",
        (
            f"It ended early: {config.get('patience')} evaluations brought nothing better."
            if training.get("ended_early")
            else ""
        ),
        f"It was interrupted and went on from step {training['resumed_at']}." if training.get("resumed_at") else "",
        "It was trained on from another adapter." if config.get("start_from") else "",
    ]
    head = (
        f" The untrained head, too: by at most {proof['max_base_logit_difference']:.2g}."
        if "max_base_logit_difference" in proof
        else ""
    )
    return (
        f"## How it was made\n\n{data['rows']['train']:,} reviews, {training['steps']} steps in"
        f" {training['seconds']:.0f} s on {plain(report['environment']['device_name'])},\nlearning rate"
        f" {config['learning_rate']:g}, batch {config['batch_size']} x {config['accumulation']}, seed"
        f" {config['seed']};\nkept:"
        f" {plain(report['kept'])}.{''.join(f' {aside}' for aside in asides if aside)}\n\n**Reload proof.** Loaded"
        " again in a fresh process under another seed, its logits differed by at most"
        f" {proof['max_logit_difference']:.2g}.{head}"
    )


def _errors(report: dict[str, Any]) -> str:
    test = report["final"]["test"]
    labels, counts = (
        [plain(label) for label in test.get("labels") or report["data"].get("labels") or []],
        test.get("confusion") or [],
    )
    if not counts or len(labels) != len(counts) or len(labels) > _MOST_LABELS:
        return ""
    rows = ([f"**{label}**", *map(str, line)] for label, line in zip(labels, counts, strict=True))
    return (
        "## Where it errs\n\nTest reviews by their label (rows) and the label given"
        f" (columns):\n\n{table(['', *labels], rows)}"
    )


def _pinned(pinned: Sequence[PinnedReview], report: dict[str, Any]) -> str:
    if not pinned:
        return ""
    labels = list(pinned[0].before)
    told = (
        [plain(review.text) if when == "before step 1" else "", when, *(_number(shares.get(label)) for label in labels)]
        for review in pinned
        for when, shares in (("before step 1", review.before), (f"step {review.step}", review.after))
    )
    return (
        f"## Reviews watched as it learnt\n\nProbabilities:\n\n{table(['review', 'when', *map(plain, labels)], told)}"
    )


def _memory(memory: Mapping[str, Any]) -> str:
    """The ledger: what was weighed on the loaded model beside what a training step was predicted to take."""
    model, budget = memory.get("model") or {}, memory.get("budget") or {}
    if not model:
        return ""
    rows = [
        [name, _bytes(model.get(key)), _bytes(budget.get(key))] for name, key in _PARTS if key in model or key in budget
    ]
    lines = [
        "## Memory",
        "Bytes, with LoRA: "
        + ("measured on the loaded model; predicted for a training step" if budget else "measured on the loaded model")
        + (f" on {budget['batch_size']} reviews of {budget['length']} tokens." if budget else "."),
        table(["", "the model, measured", "a step, predicted"], rows),
    ]
    if memory.get("peak_bytes"):
        peaks = [
            ("measured", memory["peak_bytes"]),
            ("predicted", memory.get("predicted_peak_bytes")),
            ("stood before step 1", memory.get("standing_bytes")),
        ]
        rows = [[f"{name} ({size(value)})", f"{value:,}"] for name, value in peaks if value]
        lines.append(
            "The most that training took,"
            f" {plain(memory.get('peak_is') or 'resident')}:\n\n{table(['', 'bytes'], rows)}"
        )
    return "\n\n".join(lines)


def _loading(report: dict[str, Any], base_name: str, repo: str, revision: str, max_length: int) -> str:
    code = write_snippet(report, base_name, repo=repo, revision=revision, max_length=max_length)
    return (
        "## How to load it\n\nWith `pip install torch transformers peft bitsandbytes accelerate`; on another processor"
        f" the last digits differ.\n\n{code_block(code, 'python')}"
    )


def _repeating(report: dict[str, Any], base: str, script: str) -> str:
    lone = ""
    if script:
        place = " FOLDER" if report["config"]["data"] in SAMPLES else "" if hub_data(report) else " FILE"
        command = code_block(f"python {script}{place}{'' if base else ' --base FOLDER'}", "bash")
        lone = f"\n\nWithout the app, with the libraries alone (it says at its top what it needs):\n\n{command}"
    versions = ", ".join(
        f"{plain(name)} {plain(version)}" for name, version in (report["environment"].get("versions") or {}).items()
    )
    made = f"\n\nIt was made with {versions}." if versions else ""
    return (
        "## How to make it again\n\nIn the app's"
        f" folder:\n\n{code_block(write_command(report['config']), 'bash')}{lone}{made}"
    )


def _data(report: dict[str, Any]) -> str:
    data, asked = report["data"], report["config"]["data"]
    on_hub, name = hub_data(report), plain(data["name"])
    link = f"[{on_hub}](https://huggingface.co/datasets/{on_hub})"
    if asked in SAMPLES:
        origin = (
            "The reviews were written by hand for the app that trained this adapter; they may be used under its"
            " licence, Apache-2.0."
        )
    elif on_hub in AMAZON:
        origin = f"The reviews are Amazon's, from the Hub ({link}): its card says what their licence allows."
    elif on_hub:
        origin = f"The reviews are on the Hub ({link}); its card names their licence."
    else:
        origin = (
            f"The reviews are a file of whoever trained this ({name}). They are not published here, and their licence"
            " is not known."
        )
    at = f" Revision: `{one_line(str(data['revision']))}`." if data.get("revision") else ""
    splits = list(data["rows"])
    rows = [["all", *(f"{data['rows'][split]:,}" for split in splits)]]
    for i, label in enumerate(data.get("labels") or []):
        rows.append(
            [plain(label), *(f"{data['balance'][split][i]:,}" for split in splits)]
            if data.get("balance")
            else [plain(label)]
        )
    left = "; ".join(f"{count:,} {plain(reason)}" for reason, count in (data.get("skipped") or {}).items())
    lines = [
        "## Data and its licence",
        origin + at,
        table(["reviews", *splits], rows) if data.get("balance") else table(["reviews", *splits], rows[:1]),
        f"Left out: {left}." if left else "",
        f"Labels: {plain(data['label_rule'])}." if data.get("label_rule") else "",
        f"SHA-256 over all texts and labels: `{one_line(str(data['sha256']))}`." if data.get("sha256") else "",
    ]
    return "\n\n".join(line for line in lines if line)


def _limits(report: dict[str, Any], max_length: int) -> str:
    config, test = report["config"], report["final"]["test"]
    known = [
        *map(plain, report.get("doubts") or []),
        (
            "The sample is easier than reality: whoever writes a review for a number of stars makes the stars findable."
            " Expect less on yours."
            if config["data"] in SAMPLES
            else "The test reviews come from where the training reviews come from; on others it will do worse."
        ),
        f"What is longer than {max_length or config['max_length']} tokens is cut, its end unread.",
        "One run under one seed: another seed gives other numbers, and the intervals do not say by how much.",
        (
            "Its probabilities are as sure as the calibration error above allows, on reviews like these."
            if test.get("calibration")
            else ""
        ),
        "What its base has learnt of the world, prejudices included, is in its answers.",
    ]
    lines = "\n".join(f"- {line}" for line in known if line)
    return f"## Limits and doubts\n\n{lines}\n\n`report.json` beside this file has every setting, version and number."


def _bytes(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
