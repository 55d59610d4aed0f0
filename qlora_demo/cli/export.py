"""The command export: an adapter with all that would be published, or merged with its base, as a folder or a zip.

Nothing is sent anywhere. Knows nothing of the Hub.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import SettingsError
from ..host.environment import default_home
from . import lines
from .base import Output, add_command

WARNING = (
    "A merged model rests on the dense base, not on the 4-bit one that the adapter was trained on: its answers differ."
)


def add_commands(commands: Any) -> None:
    export = add_command(
        commands, "export", run_export, "Write an adapter, or a standalone merged model, to a folder or a zip."
    )
    export.add_argument(
        "adapter", metavar="RUN|ADAPTER", help="A run's id, a local folder, a name on the Hub, or `sample`."
    )
    export.add_argument(
        "--output", metavar="PATH", required=True, help="A folder that is not there yet, or a name that ends in .zip."
    )
    export.add_argument(
        "--merged", action="store_true", help="Base and adapter as one FP16 model, without PEFT and bitsandbytes."
    )
    export.add_argument(
        "--licence", metavar="NAME", default="", help="The Hub's name of a licence, such as apache-2.0 [default: none]."
    )


def run_export(options: argparse.Namespace, out: Output) -> int:
    from ..engine.models.adapters import find_adapter
    from ..hub.metadata import check_licence
    from ..hub.publication import prepare, zip_publication
    from ..services.publish import run_of
    from ..storage.packs import Publication, PublishedFile

    check_licence(options.licence)
    adapter, output = find_adapter(options.adapter, default_home()), Path(options.output).expanduser().absolute()
    if output.exists():
        raise SettingsError({"output": f"{options.output} is there already; give another name, or remove it."})
    if not output.parent.is_dir():
        raise SettingsError({"output": f"There is no folder {output.parent}; make it first, or give another path."})
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as place:
        folder, merging = Path(place) / "model", None
        if options.merged:
            merging = _merge(adapter, folder, options.licence, out)
            files = tuple(PublishedFile(path.name, path.stat().st_size, "") for path in sorted(folder.iterdir()))
            made = Publication(folder, files, (folder / "README.md").read_text(encoding="utf-8"))
        else:
            made = prepare(adapter, run_of(adapter), folder, licence=options.licence)
        if output.suffix == ".zip":
            out.note("packing")
            zip_publication(made, Path(place) / "packed.zip").rename(output)
        else:
            shutil.move(folder, output)
    result = {"path": str(output), "files": lines.told_files(made), "merging": merging}
    out.show(result, lambda: describe(result))
    return 0


def describe(result: dict[str, Any]) -> str:
    """What was written, as lines; for a merged model also how far it is from the adapter."""
    rows = lines.file_rows(result["files"])
    if found := result["merging"]:
        rows += [
            f"On {found['rows']} reviews {found['same_label']:.1%} have the adapter's label; the logits differ by at"
            f" most {found['max_logit_difference']:.3g}, on average by {found['mean_logit_difference']:.2g}."
        ]
    return "\n".join([*rows, f"Written to {result['path']}"])


def _merge(adapter: Path, folder: Path, licence: str, out: Output) -> dict[str, Any]:
    from ..engine.classify.merging import comparison_texts, merge
    from ..hub.merged_card import write_merged_card
    from ..services.publish import COMPARED_ROWS, run_of

    out.note(WARNING)
    found = merge(adapter, folder, comparison_texts(run_of(adapter), COMPARED_ROWS), lambda text, share: out.note(text))
    note = json.loads((adapter / "qlora_demo.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text(write_merged_card(found, note, licence=licence), encoding="utf-8")
    return found
