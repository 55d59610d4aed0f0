"""The command publish: what would be published of an adapter, and publishing it as a model on the Hub.

The token is that of `hf auth login` (or HF_TOKEN), never an argument. Knows neither the card nor how the Hub is spoken
to."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from ..host.environment import default_home
from ..services.publish import run_of
from . import lines
from .base import Output, add_command


def add_commands(commands: Any) -> None:
    publish = add_command(commands, "publish", run_publish, "Publish an adapter with its card as a model on the Hub.")
    publish.add_argument("adapter", metavar="RUN|ADAPTER", help="A run's id, a local folder, or `sample`.")
    publish.add_argument(
        "--repo", metavar="USER/NAME", required=True, help="The model's name on the Hub; it is created if need be."
    )
    publish.add_argument("--private", action="store_true", help="Create it as a private one.")
    publish.add_argument("--dry-run", action="store_true", help="Show the files and the card; ask and send nothing.")
    publish.add_argument(
        "--licence", metavar="NAME", default="", help="The Hub's name of a licence, such as apache-2.0 [default: none]."
    )
    publish.add_argument("--revision", metavar="BRANCH", default="", help="Publish to this branch [default: main].")
    publish.add_argument(
        "--replace", action="store_true", help="Put it in the place of a model that this app has published there."
    )


def run_publish(options: argparse.Namespace, out: Output) -> int:
    from huggingface_hub import get_token

    from ..engine.models.adapters import find_adapter
    from ..hub.publication import prepare
    from ..hub.publish import publish
    from ..hub.refusals import check_name

    check_name(options.repo)  # before anything is loaded
    adapter = find_adapter(options.adapter, default_home())
    with tempfile.TemporaryDirectory(prefix="qlora-publish-") as place:
        made = prepare(adapter, run_of(adapter), Path(place) / "model", repo=options.repo, licence=options.licence)
        url = None
        if not options.dry_run:
            url = publish(
                made.folder,
                options.repo,
                token=get_token(),
                private=options.private,
                revision=options.revision,
                replace=options.replace,
                on_progress=_Notes(out),
            ).url
    result = {"files": lines.told_files(made), "card": made.card, "url": url}
    out.show(result, lambda: describe(result))
    return 0


def describe(result: dict[str, Any]) -> str:
    """A publication as lines: the card where nothing was sent, the files, and where they are."""
    rows = lines.file_rows(result["files"])
    if result["url"]:
        return "\n".join([*rows, f"Published at {result['url']}"])
    return "\n".join(
        [result["card"].rstrip(), "", *rows, "Nothing was sent; without --dry-run these files are published."]
    )


class _Notes:
    """Progress as notes, each a new one or a tenth further."""

    def __init__(self, out: Output):
        self._out = out
        self._last = ("", -1)

    def __call__(self, text: str, share: float | None) -> None:
        step = ("", int(10 * share)) if share is not None else (text, -1)
        if step != self._last:
            self._last = step
            self._out.note(text)
