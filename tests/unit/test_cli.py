"""The command line: standard output for results alone, exit codes, and one sentence for each mistake.

Commands that need the engine get a small one in its place; real processes where standard output itself is judged.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.__main__ import build_parser, main
from qlora_demo.cli import lines
from qlora_demo.cli.runs import read_config
from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import DataError, DemoError
from qlora_demo.core.presets import PRESETS
from qlora_demo.core.records import Prediction
from qlora_demo.core.run_report import Metrics
from qlora_demo.jobs.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QLORA_DEMO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: (exit status, standard output, standard error)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(list(arguments))
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return call


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No command given"),
        (["dance"], "invalid choice: 'dance'"),
        (["runs", "--colour"], "--colour"),
        (["show"], "RUN"),
        (["show", "../../etc/passwd"], "no run '../../etc/passwd'"),
        (["stop", "20260101-000000-abcd"], "no run '20260101-000000-abcd'"),
        (["train", "--rank", "0"], "LoRA rank r is '0'; give a number from 1 up to 256"),
        (["train", "--rank", "many"], "LoRA rank r is 'many'; give a whole number"),
        (["train", "--learning-rate", "nan"], "Learning rate"),
        (["train", "--precision", "int4"], "choose one of 'nf4-dq'"),
        (["train", "--epochs", "1", "--max-steps", "5"], "not allowed with"),
        (["train", "--preset", "none"], "There is no preset 'none'; choose one of sample"),
        (["train", "--config", "/no/such.json"], "No such file"),
        (["train", "--data", "no-such.csv"], "no-such.csv are not there"),
        (["train", "--model", "./no-such"], "./no-such is not there"),
        (["train", "--rankk", "3"], "--rankk"),
        (["memory", "sample", "--labels", "0"], "Labels is '0'"),
        (["memory", "sample", "--stages", "fp32,int3"], "Stages"),
        (["memory", "sample", "--stages", ""], "Stages"),
        (["memory", "sample", "--predict", "--measure"], "not allowed with"),
        (["classify", "some text"], "--adapter"),
        (["classify", "--adapter", "sample"], "Give one or more texts"),
        (["classify", "--adapter", "sample", " \t"], "is empty"),
        (["classify", "--adapter", "sample", "bad \udcff byte"], "not valid Unicode"),
        (["classify", "--adapter", "sample", "--file", "a.csv"], "Give --file IN.csv with --output OUT.csv"),
        (
            ["classify", "--adapter", "sample", "--file", "a.csv", "--output", "b.csv", "text"],
            "Give --file IN.csv with --output OUT.csv",
        ),
        (["classify", "--adapter", "sample", "--output", "b.csv", "text"], "Give one or more texts"),
        (["evaluate", "--adapter", "sample"], "--data"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_two(run: Run, home: Path, arguments: list[str], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert (
        words in err
        and "Traceback" not in err
        and "usage:" not in err
        and err.count("\n") == 1
        and err.rstrip().endswith(".")
    )
    assert not home.exists(), "a mistake leaves nothing behind"


@pytest.mark.parametrize("arguments", [["train", "--max-steps", "1"], ["runs", "--json"]])
def test_an_impossible_home_is_one_sentence(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        status, out, err = run(*arguments, "--runs-dir", str(place))
        assert (status, out) == (2, "") and str(place) in err and "QLORA_DEMO_HOME" in err and err.count("\n") == 1


def test_listing_runs_needs_no_home_and_no_torch(home: Path) -> None:
    script = "import sys; from qlora_demo.__main__ import main; status = main(['runs', '--json'])\n"
    script += "heavy = {'torch', 'gradio', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules)\n"
    script += "sys.exit(f'imported {heavy}' if heavy else status)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "") and not home.exists()


def test_jobs_know_neither_torch_nor_gradio_nor_the_engine() -> None:
    script = "import sys, qlora_demo.jobs.queue, qlora_demo.jobs.launch\n"
    script += (
        "print([name for name in sys.modules if name in ('torch', 'gradio', 'pydantic') or"
        " name.startswith('qlora_demo.engine')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_help_names_bounds_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for name in RunConfig.model_fields:
        assert f"--{name.replace('_', '-')} " in text
    assert "[1 to 256; default 16]" in text and "--precision nf4-dq|nf4|fp16|fp32" in text


def test_settings_come_from_preset_then_file_then_options(tmp_path: Path) -> None:
    def config(*arguments: str) -> RunConfig:
        return read_config(build_parser().parse_args(["train", *arguments]))

    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"rank": 4, "max_steps": 7, "batch_size": 8}))
    assert config() == RunConfig()
    assert config("--preset", "distilbert-amazon") == PRESETS["distilbert-amazon"].config
    mixed = config("--preset", "distilbert-amazon", "--config", str(file), "--rank", "2", "--gradient-checkpointing")
    assert (mixed.model, mixed.rank, mixed.max_steps, mixed.batch_size) == (
        "distilbert/distilbert-base-uncased",
        2,
        7,
        8,
    )
    assert mixed.gradient_checkpointing and not config("--no-gradient-checkpointing").gradient_checkpointing
    assert config("--config", str(file), "--epochs", "3").max_steps == 0, (
        "asked for by epochs, the file's limit must not win"
    )
    (tmp_path / "model").mkdir()
    assert config("--model", str(tmp_path / "model" / ".." / "model")).model == str(tmp_path / "model")
    assert config("--model", "openai-community/gpt2", "--data", "user/reviews").data == "user/reviews"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "no JSON object"),
        ('{"rnak": 3}', "no setting called 'rnak'"),
        ('{"rank": 0, "seed": -1}', "Seed is -1"),
        ("\xff", "is not JSON"),
    ],
)
def test_a_bad_settings_file_says_what_is_wrong(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(DemoError, match=words):
        read_config(build_parser().parse_args(["train", "--config", str(file)]))


class FakeClassifier:
    """Three labels; the longer the text the better. Refuses to be made for an adapter called `none`."""

    labels = ("1 star", "2 stars", "3 stars")
    ordinal = True

    def __init__(self, adapter: str, *, runs_home: Path, restored: bool = False):
        if adapter == "none":
            raise DataError("There is no adapter 'none'.")
        print("noise from a library")

    def classify(self, texts: list[str], base: bool = False, calibrated: bool = False) -> list[Prediction]:
        assert all(text.strip() and len(text) <= 50 for text in texts)
        return [
            Prediction(text, "3 stars", 3, 2.9, {"1 star": 0.0, "2 stars": 0.1, "3 stars": 0.9}, len(text) > 20)
            for text in texts
        ]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    inference = types.ModuleType("qlora_demo.engine.classify.classifier")
    inference.Classifier = FakeClassifier  # type: ignore[attr-defined]
    inference.MAX_CHARACTERS = 50  # type: ignore[attr-defined]
    inference.check_texts = _check_texts  # type: ignore[attr-defined]
    evaluation = types.ModuleType("qlora_demo.engine.classify.metrics")
    evaluation.evaluate = _evaluate  # type: ignore[attr-defined]
    import qlora_demo.engine

    for name, module in (("inference", inference), ("evaluation", evaluation)):
        monkeypatch.setitem(sys.modules, f"qlora_demo.engine.{name}", module)
        monkeypatch.setattr(qlora_demo.engine, name, module, raising=False)
    return inference


def _check_texts(texts: list[str]) -> None:
    if any(len(text) > 50 for text in texts):
        raise DataError("The review is too long.")


def _evaluate(adapter: str, data: str, **options: Any) -> Metrics:
    assert options["split"] == "test" and options["base"] is True
    return Metrics(
        rows=2,
        loss=float("nan"),
        accuracy=0.5,
        macro_f1=0.5,
        mae_stars=0.5,
        within_one=1.0,
        quadratic_kappa=0.0,
        confusion=((1, 0), (1, 0)),
        labels=("1", "2"),
        seconds=0.1,
    )


def test_classify_prints_one_json_line(run: Run, engine: types.ModuleType) -> None:
    status, out, err = run("classify", "--adapter", "sample", "fine", "good\nand more than twenty letters", "--json")
    assert status == 0 and out.count("\n") == 1 and "noise" not in out
    first, second = json.loads(out)
    assert (first["text"], first["stars"], first["truncated"], second["truncated"]) == ("fine", 3, False, True)
    status, out, err = run("classify", "--adapter", "sample", "fine")
    assert "3 of 3 stars (2.9 expected)" in out and "90.0 %" in out
    status, out, err = run("classify", "--adapter", "none", "fine", "--json")
    assert (status, out, err) == (2, "", "There is no adapter 'none'.\n")
    assert run("classify", "--adapter", "none", "x" * 51) == (2, "", "The review is too long.\n")


def test_evaluate_prints_one_json_line(run: Run, engine: types.ModuleType) -> None:
    status, out, _ = run("evaluate", "--adapter", "sample", "--data", "sample", "--base", "--split", "test", "--json")
    assert status == 0 and json.loads(out)["accuracy"] == 0.5 and json.loads(out)["loss"] is None
    assert "50.0 %" in run("evaluate", "--adapter", "sample", "--data", "sample", "--base", "--split", "test")[1]


def classify_file(run: Run, tmp_path: Path, content: bytes, *options: str) -> tuple[int, str, str]:
    (tmp_path / "in.csv").write_bytes(content)
    return run(
        "classify",
        "--adapter",
        "sample",
        "--file",
        str(tmp_path / "in.csv"),
        "--output",
        str(tmp_path / "out.csv"),
        *options,
    )


def test_a_file_keeps_its_columns_and_gains_the_predictions(run: Run, engine: types.ModuleType, tmp_path: Path) -> None:
    content = '\ufeffid;Review;label\n1;"good; really\ngood";5\n\n2;;1\n3;{};1\n4;ok\n'.format("x" * 51).encode()
    status, out, err = classify_file(run, tmp_path, content)
    assert status == 0 and "Wrote 3 rows" in out
    assert "2 of 3 rows have no prediction: 1 empty, 1 longer than 50 characters." in err
    assert "Rows left out: 1, because of fewer cells than the 3 columns (line 7)" in err
    assert (
        (tmp_path / "out.csv").read_text()
        == f'id;Review;label;predicted_label;stars;expected_stars;probability_1 star;probability_2 stars;probability_3 stars;truncated;problem\n1;"good; really\ngood";5;3 stars;3;2.9000;0.000000;0.100000;0.900000;false;\n2;;1;;;;;;;;empty\n3;{"x" * 51};1;;;;;;;;longer than 50 characters\n'  # noqa: E501
    )
    assert [item["text"] for item in json.loads(classify_file(run, tmp_path, content, "--json")[1])] == [
        "good; really\ngood"
    ]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet"])
def test_a_file_is_written_as_its_name_says(run: Run, engine: types.ModuleType, tmp_path: Path, kind: str) -> None:
    (tmp_path / "in.csv").write_text("text\ngood\n")
    output = tmp_path / f"out.{kind.upper()}"
    assert run("classify", "--adapter", "sample", "--file", str(tmp_path / "in.csv"), "--output", str(output))[0] == 0
    starts = {
        "tsv": b"text\tlabel\tstars",
        "jsonl": b'{"text": "good", "label": "3 stars", "stars": 3',
        "parquet": b"PAR1",
    }
    assert output.read_bytes().startswith(starts[kind])


def test_a_long_file_is_classified_in_batches(run: Run, engine: types.ModuleType, tmp_path: Path) -> None:
    status, _, _ = classify_file(run, tmp_path, b"text\n" + b"good\n" * 1000)
    assert status == 0 and (tmp_path / "out.csv").read_text().count("3 stars,3,2.9") == 1000


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", [], "is empty"),
        (b"id,words\n1,good\n", [], "No column looks like the text; the columns are id, words: name it"),
        (
            b"id,words\n1,good\n",
            ["--text", "wordz"],
            "There is no column 'wordz' for the text; the columns are id, words",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0", [], "is a picture"),
        (b"id,text\n1,a,b\n", [], "holds no reviews (1 left out: more cells than the 2 columns (line 2))"),
    ],
)
def test_a_bad_file_is_one_sentence_and_leaves_no_output(
    run: Run, engine: types.ModuleType, tmp_path: Path, content: bytes, options: list[str], words: str
) -> None:
    status, out, err = classify_file(run, tmp_path, content, *options)
    assert (status, out) == (2, "") and words in err and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_file_is_never_written_over_itself(run: Run, engine: types.ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("text\ngood\n")
    for target in (file, tmp_path / "." / "in.csv", tmp_path, tmp_path / "out.xlsx"):
        assert run("classify", "--adapter", "sample", "--file", str(file), "--output", str(target))[0] == 2
    assert file.read_text() == "text\ngood\n"
    status, _, err = run(
        "classify", "--adapter", "sample", "--file", str(tmp_path / "no.csv"), "--output", str(tmp_path / "out.csv")
    )
    assert status == 2 and "no.csv" in err and "No such file" in err
    status, _, err = run(
        "classify", "--adapter", "sample", "--file", str(file), "--output", str(tmp_path / "nowhere" / "out.csv")
    )
    assert status == 2 and "cannot be written" in err and err.count("\n") == 1


def test_the_unexpected_is_exit_one_and_prints_no_result(
    run: Run, engine: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FakeClassifier, texts: list[str], base: bool = False) -> list[Prediction]:
        raise MemoryError if texts == ["big"] else KeyError("logits")

    monkeypatch.setattr(FakeClassifier, "classify", broken)
    status, out, err = run("classify", "--adapter", "sample", "odd", "--json")
    assert (status, out) == (1, "") and "Unexpected: KeyError: 'logits'" in err and "worker.log" not in err
    status, out, err = run("classify", "--adapter", "sample", "big", "--json")
    assert (status, out) == (1, "") and "Memory ran out" in err and "Traceback" not in err


def test_runs_and_show_speak_to_people_and_machines(run: Run, home: Path) -> None:
    store = Store(home)
    jobs = [store.create("train", {"model": "sample", "data": "sample"}) for _ in range(2)]
    for job in jobs:
        job.finish(job.state(), "stopped")
    shown = json.loads(run("runs", "--json")[1])
    assert [item["run"] for item in shown] == [job.id for job in reversed(jobs)]
    wanted = {"run", "state", "model", "data", "steps_done", "steps_total", "metrics", "position"}
    assert wanted <= set(shown[0]) and json.loads(run("show", jobs[0].id, "--json")[1])["state"] == "stopped"
    assert jobs[0].id in run("runs")[1] and "stopped" in run("show", jobs[0].id)[1]


def test_numbers_for_people_carry_their_units() -> None:
    assert (lines.size(None), lines.size(1024**2), lines.size(3 * 1024**3)) == ("-", "1.00 MiB", "3.00 GiB")
    stage = {
        "name": "nf4",
        "source": "predicted",
        "weights_bytes": 2**20,
        "constants_bytes": 0,
        "buffers_bytes": 0,
        "adapter_bytes": 0,
        "quantized_layers": 3,
        "kept_layers": 2,
        "total_bytes": 2**20,
    }
    text = lines.memory_table(
        {"model": "m", "parameters": 12345, "stages": [stage, {**stage, "source": "measured", "total_bytes": 2**21}]}
    )
    assert "m: 12,345 parameters" in text and "1.00 MiB" in text and "2.00 MiB" in text and "3/5" in text


def test_phases_are_not_repeated_for_every_bit_of_progress() -> None:
    printer = lines.EventLines()
    phases = [
        {"event": "phase", "name": "download", "detail": f"{step} MiB", "progress": step / 100} for step in range(100)
    ]
    assert sum(map(printer.line, phases)) == 10
    assert printer.line({"event": "phase", "name": "train", "detail": "", "progress": None}) and printer.text == "train"
    assert printer.line({"event": "something-new"}), "an event of a later version does no harm"
