"""What of a text is for this machine alone: paths become names, and what an upload is called goes by a word.

Knows where things lie here, not what they are.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

UNNAMED = "an uploaded file"
_HERE = "\ue000"  # stands for a known folder; no text holds it
# Not what follows a letter (and/or), a colon (https://) or a bracket (</p>), and not one part alone: that is an address
# of the app's own.
_PART = r"(?:/[^\s/'\"`<>|;,()\[\]{}]+)"
_PATH = re.compile(rf"(?:{_HERE}|(?<![\w:/.<~-])~){_PART}+/?|(?<![\w:/.<~-]){_PART}{{2,}}/?")
_UPLOAD = re.compile(r"upload:[0-9a-f]{8,}/")


def without_paths(text: str) -> str:
    """The text with each path of this machine cut to its last part."""
    if "/" not in text:
        return text
    for place in _places():
        text = text.replace(place, _HERE)
    return _PATH.sub(_last_part, _UPLOAD.sub("", text)).replace(_HERE, "this machine")


def clean(value: Any, hidden: Collection[str] = ()) -> Any:
    """The value with all its texts cut as `without_paths` does, and each of the `hidden` words replaced."""
    if isinstance(value, str):
        text = without_paths(value)
        for word in filter(None, hidden):
            text = text.replace(word, UNNAMED)
        return text
    if isinstance(value, dict):
        return {name: clean(item, hidden) for name, item in value.items()}
    return [clean(item, hidden) for item in value] if isinstance(value, list | tuple) else value


def _last_part(match: re.Match[str]) -> str:
    path = match.group()
    name = path.rstrip("/.:!?").rpartition("/")[2]
    # The full stop of a sentence is no part of a name.
    return name + path[len(path.rstrip(".:!?")) :]


@cache
def _places() -> tuple[str, ...]:
    """Folders that may hold blanks, which would end a path for the pattern; the longest first."""
    named = [os.environ.get(name, "") for name in ("QLORA_DEMO_HOME", "HF_HOME", "HF_HUB_CACHE", "GRADIO_TEMP_DIR")]
    ours = {str(Path(__file__).parents[2]), str(Path.home()), os.getcwd(), tempfile.gettempdir()}
    places = ours | {os.path.abspath(place) for place in named if place}
    return tuple(sorted((place for place in places if place.count("/") > 1 or len(place) > 4), key=len, reverse=True))
