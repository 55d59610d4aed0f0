"""The command line: standard output for results alone, exit codes, and one sentence for each mistake.

Commands that need the engine get a small one in its place; real processes where standard output itself is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qlora_demo.__main__ import build_parser
from qlora_demo.cli.events import EventLines
from qlora_demo.cli.train import read_config
from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import DemoError
from qlora_demo.core.presets import PRESETS
from qlora_demo.core.records import Evaluation, Event, GpuReading, Prediction
from qlora_demo.core.run_report import Metrics
from qlora_demo.jobs.store import Store
from tests.conftest import Cli
from tests.serving import ROOT


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QLORA_DEMO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


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
        (["train", "--start-from", "no-such-run"], "There is no adapter 'no-such-run'; give `sample`"),
        (["train", "--model", "./no-such"], "./no-such is not there"),
        (["train", "--rankk", "3"], "--rankk"),
        (["memory", "sample", "--labels", "0"], "Number of classes is '0'"),
        (["memory", "sample", "--stages", "fp32,int3"], "Stages"),
        (["memory", "sample", "--stages", ""], "Stages"),
        (["memory", "sample", "--predict", "--measure"], "not allowed with"),
        (["classify", "some text"], "--adapter"),
        (["classify", "--adapter", "sample"], "Give one or more texts"),
        (["classify", "--adapter", "sample", " \t"], "is empty"),
        (["classify", "--adapter", "sample", "bad \udcff byte"], "half a character"),
        (["classify", "--adapter", "sample", "--file", "a.csv"], "Give --file IN.csv with --output OUT.csv"),
        (["classify", "--adapter", "sample", "--output", "b.csv", "text"], "Give one or more texts"),
        (["evaluate", "--adapter", "sample"], "--data"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_two(cli: Cli, home: Path, arguments: list[str], words: str) -> None:
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "")
    assert words in err and "Traceback" not in err and "usage:" not in err and err.count("\n") == 1
    assert err.rstrip().endswith(".")
    assert not home.exists(), "a mistake leaves nothing behind"


@pytest.mark.parametrize("arguments", [["train", "--max-steps", "1"], ["runs", "--json"]])
def test_an_impossible_home_is_one_sentence(cli: Cli, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        status, out, err = cli(*arguments, "--runs-dir", str(place))
        assert (status, out) == (2, "") and str(place) in err and "QLORA_DEMO_HOME" in err and err.count("\n") == 1


def test_listing_runs_needs_no_home_and_no_torch(home: Path) -> None:
    script = "import sys; from qlora_demo.__main__ import main; status = main(['runs', '--json'])\n"
    script += "heavy = {'torch', 'gradio', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules)\n"
    script += "sys.exit(f'imported {heavy}' if heavy else status)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "") and not home.exists()


def test_help_names_bounds_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for name in RunConfig.model_fields:
        assert f"--{name.replace('_', '-')} " in text


def test_settings_come_from_preset_then_file_then_options(tmp_path: Path) -> None:
    def config(*arguments: str) -> RunConfig:
        return read_config(build_parser().parse_args(["train", *arguments]))

    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"rank": 4, "max_steps": 7, "batch_size": 8}))
    assert config() == RunConfig()
    assert config("--preset", "distilbert-amazon") == PRESETS["distilbert-amazon"].config
    mixed = config("--preset", "distilbert-amazon", "--config", str(file), "--rank", "2", "--gradient-checkpointing")
    preset = PRESETS["distilbert-amazon"].config
    assert (mixed.model, mixed.rank, mixed.max_steps, mixed.batch_size) == (preset.model, 2, 7, 8)
    assert mixed.gradient_checkpointing and not config("--no-gradient-checkpointing").gradient_checkpointing
    assert config("--config", str(file), "--epochs", "3").max_steps == 0, "the file's limit must not win"
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
    """Three labels, always the third one."""

    labels = ("1 star", "2 stars", "3 stars")
    ordinal, temperature = True, None

    def __init__(self, adapter: str, **options: Any):
        print("noise from a library")

    def score(self, texts: list[str], base: bool = False, scale: float = 1.0) -> list[str]:
        return texts

    def predict(self, text: str, scores: str, base: bool = False, calibrated: bool = False) -> Prediction:
        return Prediction(text, "3 stars", 3, 2.9, {"1 star": 0.0, "2 stars": 0.1, "3 stars": 0.9}, len(text) > 20)

    def classify(self, texts: list[str], base: bool = False, calibrated: bool = False) -> list[Prediction]:
        return [self.predict(text, text) for text in self.score(texts, base)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that needs no model, and reviews of at most 50 characters."""
    from qlora_demo.engine.classify import classifier, classify_file

    monkeypatch.setattr(classifier, "Classifier", FakeClassifier)
    for module in (classifier, classify_file):
        monkeypatch.setattr(module, "MAX_CHARACTERS", 50)


def test_classify_prints_one_json_line(cli: Cli, engine: None) -> None:
    status, out, err = cli("classify", "--adapter", "sample", "fine", "good\nand more than twenty letters", "--json")
    assert status == 0 and out.count("\n") == 1 and "noise" not in out
    first, second = json.loads(out)
    assert (first["text"], first["stars"], first["truncated"], second["truncated"]) == ("fine", 3, False, True)
    status, out, err = cli("classify", "--adapter", "sample", "fine")
    assert "3 of 3 stars (2.9 expected)" in out and "90.0 %" in out
    status, out, err = cli("classify", "--adapter", "none", "fine", "--json")
    assert (status, out) == (2, "") and err.startswith("There is no adapter 'none'; give `sample`")
    status, out, err = cli("classify", "--adapter", "none", "x" * 51)
    assert (status, out) == (2, "") and "51 characters" in err


def test_evaluate_prints_one_json_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from qlora_demo.engine.classify import classifier

    def evaluate(adapter: str, data: str, **options: Any) -> Metrics:
        assert options["split"] == "test" and options["base"] is True
        return Metrics(rows=2, loss=float("nan"), accuracy=0.5, macro_f1=0.5, labels=("1", "2"))

    monkeypatch.setattr(classifier, "evaluate", evaluate)
    status, out, _ = cli("evaluate", "--adapter", "sample", "--data", "sample", "--base", "--split", "test", "--json")
    assert status == 0 and json.loads(out)["accuracy"] == 0.5 and json.loads(out)["loss"] is None
    assert "50.0 %" in cli("evaluate", "--adapter", "sample", "--data", "sample", "--base", "--split", "test")[1]


def classify_file(cli: Cli, tmp_path: Path, content: bytes, *options: str) -> tuple[int, str, str]:
    (tmp_path / "in.csv").write_bytes(content)
    output = str(tmp_path / "out.csv")
    return cli(*"classify --adapter sample --file".split(), str(tmp_path / "in.csv"), "--output", output, *options)


def test_a_file_keeps_its_columns_and_gains_the_predictions(cli: Cli, engine: None, tmp_path: Path) -> None:
    content = '\ufeffid;Review;label\n1;"good; really\ngood";5\n\n2;;1\n3;{};1\n4;ok\n'.format("x" * 51).encode()
    status, out, err = classify_file(cli, tmp_path, content)
    assert status == 0 and "Wrote 3 rows" in out
    assert "2 of 3 rows have no prediction: 1 empty, 1 longer than 50 characters." in err
    assert "Rows left out: 1, because of fewer cells than the 3 columns (line 7)" in err
    head, _, rows = (tmp_path / "out.csv").read_text().partition("\n")
    assert head.startswith("id;Review;label;predicted_label;stars;") and head.endswith(";truncated;problem")
    assert rows.startswith('1;"good; really\ngood";5;3 stars;3;2.9000;') and "\n2;;1;;;;;;;;empty\n" in rows
    found = json.loads(classify_file(cli, tmp_path, content, "--json")[1])
    assert [item["text"] for item in found] == ["good; really\ngood"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet"])
def test_a_file_is_written_as_its_name_says(cli: Cli, engine: None, tmp_path: Path, kind: str) -> None:
    (tmp_path / "in.csv").write_text("text\ngood\n")
    output = tmp_path / f"out.{kind.upper()}"
    assert cli("classify", "--adapter", "sample", "--file", str(tmp_path / "in.csv"), "--output", str(output))[0] == 0
    starts = {"tsv": b"text\tlabel\tstars", "jsonl": b'{"text": "good", "label": "3 stars"', "parquet": b"PAR1"}
    assert output.read_bytes().startswith(starts[kind])


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", [], "is empty"),
        (b"id,words\n1,good\n", [], "No column looks like the text; the columns are id, words: name it"),
        (b"id,words\n1,good\n", ["--text", "wordz"], "There is no column 'wordz' for the text"),
        (b"\x89PNG\r\n\x1a\n\0\0", [], "is a picture"),
        (b"id,text\n1,a,b\n", [], "holds no reviews (1 left out: more cells than the 2 columns (line 2))"),
    ],
)
def test_a_bad_file_is_one_sentence_and_leaves_no_output(
    cli: Cli, engine: None, tmp_path: Path, content: bytes, options: list[str], words: str
) -> None:
    status, out, err = classify_file(cli, tmp_path, content, *options)
    assert (status, out) == (2, "") and words in err and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_file_is_never_written_over_itself(cli: Cli, engine: None, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("text\ngood\n")
    for target in (file, tmp_path / "." / "in.csv", tmp_path, tmp_path / "out.xlsx"):
        assert cli("classify", "--adapter", "sample", "--file", str(file), "--output", str(target))[0] == 2
    assert file.read_text() == "text\ngood\n"
    for source, target, words in (("no.csv", "out.csv", "No such file"), ("in.csv", "nowhere/out.csv", "cannot be")):
        paths = ["--file", str(tmp_path / source), "--output", str(tmp_path / target)]
        status, _, err = cli("classify", "--adapter", "sample", *paths)
        assert status == 2 and words in err and "Traceback" not in err


def test_the_unexpected_is_exit_one_and_prints_no_result(
    cli: Cli, engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FakeClassifier, texts: list[str], base: bool = False, scale: float = 1.0) -> list[str]:
        raise MemoryError if texts == ["big"] else KeyError("logits")

    monkeypatch.setattr(FakeClassifier, "score", broken)
    status, out, err = cli("classify", "--adapter", "sample", "odd", "--json")
    assert (status, out) == (1, "") and "Unexpected: KeyError: 'logits'" in err and "worker.log" not in err
    status, out, err = cli("classify", "--adapter", "sample", "big", "--json")
    assert (status, out) == (1, "") and "Memory ran out" in err and "Traceback" not in err


def test_runs_and_show_speak_to_people_and_machines(cli: Cli, home: Path) -> None:
    store = Store(home)
    jobs = [store.create("train", {"model": "sample", "data": "sample"}) for _ in range(2)]
    for job in jobs:
        job.finish(job.state(), "stopped")
    shown = json.loads(cli("runs", "--json")[1])
    assert [item["run"] for item in shown] == [job.id for job in reversed(jobs)]
    wanted = {"run", "state", "model", "data", "steps_done", "steps_total", "metrics", "position"}
    assert wanted <= set(shown[0]) and json.loads(cli("show", jobs[0].id, "--json")[1])["state"] == "stopped"
    assert jobs[0].id in cli("runs")[1] and "stopped" in cli("show", jobs[0].id)[1]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (GpuReading(0.87, 2**30, 61, 142.4), "  GPU: 87 % busy, 1.00 GiB in use, 61 °C, 142 W"),
        (GpuReading(None, None, None, None), "  GPU: no readings"),
        (
            Evaluation(0.5, 0.9, 0.8, 0.12, "test", step=5),
            "test after step 5: accuracy 90.0 %  macro F1 0.800  loss 0.500  off by 0.12 stars",
        ),
    ],
)
def test_events_are_lines_with_their_numbers(event: Event, line: str) -> None:
    printer = EventLines()
    assert printer.line(event.to_dict()) and printer.text == line


def test_phases_are_not_repeated_for_every_bit_of_progress() -> None:
    printer = EventLines()
    phase = {"event": "phase", "name": "download", "detail": "some MiB"}
    assert sum(printer.line({**phase, "progress": step / 100}) for step in range(100)) == 10
    assert printer.line({"event": "phase", "name": "train", "detail": "", "progress": None}) and printer.text == "train"
    assert printer.line({"event": "something-new"}), "an event of a later version does no harm"
