"""What a publication of an adapter consists of: exactly which files, without a path or a key of this machine, and its
card.

Copies into a folder of its own, which can be inspected before anything is sent. Knows nothing of where it will be sent.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from ..core.errors import AdapterError, HubError, is_disk_full
from ..core.run_report import RunReport
from ..host.redaction import clean
from ..storage.packs import Publication, PublishedFile
from .card import write_card
from .figures import FIGURES, draw_figures
from .history import pinned_reviews, read_history
from .metadata import check_licence, public_name
from .script import write_script

NOTE, CONFIG, WEIGHTS = "qlora_demo.json", "adapter_config.json", "adapter_model.safetensors"
_NEEDED = {
    CONFIG: "how PEFT builds the adapter",
    WEIGHTS: "the trained weights: LoRA and the head",
    "untrained_head.safetensors": "the head before step 1, to compare with",
    NOTE: "labels, base, precision and longest length",
}
_TOKENIZER = {
    name: "the tokenizer"
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "spiece.model",
        "tokenizer.model",
        "sentencepiece.bpe.model",
        "bpe.codes",
        "chat_template.jinja",
    )
}
_NAMING_PLACES = (NOTE, CONFIG, "tokenizer_config.json")  # may say where a local base or tokenizer lay
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")
CARD, REPORT, SCRIPT, LOG = "README.md", "report.json", "train.py", "events.jsonl"


def prepare(adapter: Path, run: Path | None, into: Path, *, repo: str = "", licence: str = "") -> Publication:
    """Copies what is to be published of the folder `adapter`, and of its `run` where there is one, into the folder
    `into`.

    repo: user/name, as the card names it; licence: the Hub's name of one, "" = none chosen. `into` is emptied of an
    earlier publication. Raises AdapterError for a folder that is no whole adapter of this app, HubError for an unknown
    licence or a disk that is full."""
    check_licence(licence)
    note, report = _read(adapter / NOTE), _read(adapter / REPORT)
    for name in _NEEDED:
        if not (adapter / name).is_file():
            raise AdapterError(f"The adapter has no {name}; publish one that this app has saved.")
    try:
        _empty(into)
        roles = _copy(adapter, run, into, note, report)
        events = read_history(into / LOG)
        public = RunReport.parse((into / REPORT).read_bytes(), f"The adapter's {REPORT}")
        figures = draw_figures(public, events, into)
        base, revision = public_name("model", str(note["base_name"])), str(note.get("revision") or "")
        (into / SCRIPT).write_text(write_script(public, note, _read(adapter / CONFIG)), encoding="utf-8")
        card = write_card(
            public,
            base,
            licence=licence,
            repo=repo,
            revision=revision,
            max_length=int(note.get("max_length") or 0),
            pinned=pinned_reviews(events, public.training.best_step if public.training else None),
            figures=figures,
            script=SCRIPT,
        )
        (into / CARD).write_text(card, encoding="utf-8")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AdapterError(
            f"The adapter's {REPORT} does not have what a card needs ({type(error).__name__}: {str(error)[:60]}); "
            "publish one that this app has trained."
        ) from error
    except OSError as error:
        why = (
            "the disk is full; free some space"
            if is_disk_full(error)
            else f"{error.strerror or 'input or output error'}; try again"
        )
        raise HubError(f"The publication could not be put together: {why}.") from error
    roles = {CARD: "the model card", **roles, SCRIPT: "repeats the run with the libraries alone"}
    roles |= {figure.name: figure.alt for figure in figures}
    return Publication(
        into, tuple(PublishedFile(name, (into / name).stat().st_size, what) for name, what in roles.items()), card
    )


def write_run_script(report: RunReport, adapter: Path) -> str:
    """The script that repeats the run which made the adapter in a folder. Raises AdapterError."""
    return write_script(report, _read(adapter / NOTE), _read(adapter / CONFIG))


def zip_publication(publication: Publication, path: Path) -> Path:
    """All files as one zip at `path`, byte for byte the same each time: in order, stored, without times. Raises
    OSError.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for file in publication.files:
            entry = zipfile.ZipInfo(file.name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            with (
                (publication.folder / file.name).open("rb") as source,
                packed.open(entry, "w", force_zip64=True) as target,
            ):
                shutil.copyfileobj(source, target)
    return path


def _empty(into: Path) -> None:
    """Makes the folder, without the files of an earlier publication. Raises HubError where it holds anything else."""
    ours = {*_NEEDED, *_TOKENIZER, *FIGURES, CARD, REPORT, SCRIPT, LOG}
    into.mkdir(parents=True, exist_ok=True)
    if others := sorted(path.name for path in into.iterdir() if path.name not in ours or not path.is_file()):
        raise HubError(
            f"The folder {into.name} holds {others[0]}, which is no part of a publication; give an empty folder."
        )
    for path in into.iterdir():
        path.unlink()


def _copy(adapter: Path, run: Path | None, into: Path, note: dict[str, Any], report: dict[str, Any]) -> dict[str, str]:
    """What is taken as it is, and what is taken without this machine's paths; {name: what it is}."""
    roles, known = {}, _known_places(report["config"], note)
    for name, what in (_NEEDED | _TOKENIZER).items():
        if name in _NAMING_PLACES and (adapter / name).is_file():
            _write(into / name, _without_places(_read(adapter / name), known))
        elif (adapter / name).is_file():
            shutil.copyfile(adapter / name, into / name)
        else:
            continue
        roles[name] = what
    _write(into / REPORT, _without_places(report, known))
    if run is not None and (run / LOG).is_file():
        with (run / LOG).open("rb") as lines, (into / LOG).open("w", encoding="utf-8") as log:
            for line in lines:
                try:
                    log.write(json.dumps(_public(json.loads(line), known), ensure_ascii=False) + "\n")
                except ValueError:  # torn
                    continue
        roles[LOG] = "the training log, event by event"
    return {**roles, REPORT: "every setting, version and number"}


def _without_places(values: dict[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """The object of a JSON file with each local model, file and folder by its name alone."""
    fields = {
        "model": "model",
        "base_name": "model",
        "base_model_name_or_path": "model",
        "name_or_path": "model",
        "data": "data",
        "start_from": "start_from",
    }
    cleaned: dict[str, Any] = {}
    for name, value in values.items():
        if name == "config" and isinstance(value, dict):
            cleaned[name] = _without_places(value, known)
        else:
            cleaned[name] = (
                public_name(fields[name], value) if name in fields and isinstance(value, str) else _public(value, known)
            )
    return cleaned


def _known_places(config: Mapping[str, Any], note: Mapping[str, Any]) -> dict[str, str]:
    """Paths that the run's settings name, which may hold blanks, and what each is called in public; the longest
    first.
    """
    named = [("model", note.get("base_name")), *((kind, config.get(kind)) for kind in ("model", "data", "start_from"))]
    paths = {
        value: public_name(kind, value)
        for kind, value in named
        if isinstance(value, str) and PurePath(value).is_absolute()
    }
    return dict(sorted(paths.items(), key=lambda item: -len(item[0])))


def _public(value: Any, known: Mapping[str, str]) -> Any:
    """The value with the `known` paths in its texts by their names, other paths cut, and no token of the Hub."""
    if isinstance(value, dict):
        return {name: _public(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_public(item, known) for item in value]
    if isinstance(value, str):
        for path, name in known.items():
            value = value.replace(path, name)
        return clean(_TOKEN.sub("hf_...", value))
    return value


def _read(path: Path) -> dict[str, Any]:
    """A JSON object. Raises AdapterError."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AdapterError(f"The adapter has no {path.name}; publish one that this app has saved.") from None
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"The adapter's {path.name} cannot be read ({type(error).__name__}); train or fetch it again."
        ) from error
    if not isinstance(content, dict):
        raise AdapterError(f"The adapter's {path.name} holds no object; train or fetch it again.")
    return content


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
