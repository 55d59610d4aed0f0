"""The commands publish and export: an adapter as a model on the Hub, in a folder, in a zip, or merged with its base.

The token is that of `hf auth login` (or HF_TOKEN), never an argument."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import lines
from .base import ADAPTER, Options, Output, add_command, open_services
from .events import Notes

if TYPE_CHECKING:
    from ..storage.packs import PublishedFile

WARNING = (
    "A merged model rests on the dense base, not on the 4-bit one that the adapter was trained on: its answers differ."
)
SOURCE: Options = {
    "adapter": {"metavar": "RUN|ADAPTER", "help": ADAPTER},
    "--licence": {
        "metavar": "NAME",
        "default": "",
        "help": "The Hub's name of a licence, such as apache-2.0 [default: none].",
    },
}
PUBLISH: Options = {
    "--repo": {
        "metavar": "USER/NAME",
        "required": True,
        "help": "The model's name on the Hub; it is created if need be.",
    },
    "--private": {"action": "store_true", "help": "Create it as a private one."},
    "--dry-run": {"action": "store_true", "help": "Show the files and the card; ask and send nothing."},
    "--revision": {"metavar": "BRANCH", "default": "", "help": "Publish to this branch [default: main]."},
    "--replace": {"action": "store_true", "help": "Replace a model that this app has published there."},
}
EXPORT: Options = {
    "--output": {"metavar": "PATH", "required": True, "help": "A new folder, or a name that ends in .zip."},
    "--merged": {"action": "store_true", "help": "Base and adapter as one FP16 model, without PEFT and bitsandbytes."},
}


def add_commands(commands: Any) -> None:
    summary = "Publish an adapter with its card as a model on the Hub."
    add_command(commands, "publish", run_publish, summary, {**SOURCE, **PUBLISH})
    summary = "Write an adapter, or a standalone merged model, to a folder or a zip."
    add_command(commands, "export", run_export, summary, {**SOURCE, **EXPORT})


def run_publish(options: argparse.Namespace, out: Output) -> int:
    service = open_services().publish
    url = None
    with service.prepared(options.adapter, repo=options.repo, licence=options.licence) as publication:
        if not options.dry_run:
            url = service.send(
                publication,
                options.repo,
                token=service.hub_token(),
                private=options.private,
                revision=options.revision,
                replace=options.replace,
                on_progress=Notes(out.note),
            ).url
    result = {"files": _files(publication.files), "card": publication.card, "url": url}
    out.show(result, lambda: lines.publication(publication, url))
    return 0


def run_export(options: argparse.Namespace, out: Output) -> int:
    if options.merged:
        out.note(WARNING)
    exported = open_services().publish.export(
        options.adapter,
        Path(options.output).expanduser().absolute(),
        merged=options.merged,
        licence=options.licence,
        on_progress=lambda text, share: out.note(text),
    )
    merging = exported.merging.to_dict() if exported.merging else None
    result = {"path": str(exported.path), "files": _files(exported.files), "merging": merging}
    out.show(result, lambda: lines.export(exported))
    return 0


def _files(files: Sequence[PublishedFile]) -> list[dict[str, str | int]]:
    return [{"name": file.name, "size_bytes": file.size_bytes} for file in files]
