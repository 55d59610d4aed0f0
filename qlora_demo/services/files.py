"""Files of reviews: previewed, classified by a job, or by this very process into another file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import engine
from ..core.errors import DataError, SettingsError
from ..core.file_report import FilePreview, FileReport
from ..core.records import Columns, Event, Prediction
from ..core.requests import ClassifyRequest
from ..host import limits
from ..host.host import Host, Started
from .machine import MachineService


class FileService:
    """The files of one host. All functions raise DemoErrors."""

    def __init__(self, host: Host, machine: MachineService):
        self._host, self._machine = host, machine

    def preview(self, path: str, text: str = "", title: str = "", label: str = "") -> FilePreview:
        """How a file would be read, with its first rows; columns by name, "" = detected."""
        engine.load()
        from ..engine.classify import classify_file

        return classify_file.preview(Path(path), Columns(text=text, title=title, label=label))

    def start(self, request: ClassifyRequest, visitor: str = "") -> Started:
        """A job that classifies a file; at once where the model is small, else when the device is free."""
        self._host.check(request)
        engine.load()
        from ..engine.data.reading import tables
        from ..engine.models import adapters

        if self._host.public:
            limits.check_rows(len(chunk.rows) for chunk in tables.open_table(Path(request.file)).chunks())
        folder = adapters.find_adapter(request.adapter, self._host.home)
        parameters = adapters.read_parameters(folder)
        adapter = str(folder) if os.sep in request.adapter else request.adapter
        settings = {**request.to_dict(), "file": os.path.abspath(request.file), "adapter": adapter}
        small = parameters is not None and self._machine.has_room_beside(4 * parameters)
        return self._host.submit("classify", settings, visitor, beside=small)

    def classify(
        self,
        request: ClassifyRequest,
        output: Path,
        emit: Callable[[Event], None],
        on_predictions: Callable[[Sequence[Prediction]], None] = lambda predictions: None,
    ) -> FileReport:
        """Classifies a file into another one, of the kind that its name says: .csv, .tsv, .jsonl or .parquet.

        It is written beside its place and renamed at the end: after any error nothing is left of it."""
        engine.load()
        from ..engine.classify import classify_file, exporting
        from ..engine.classify.classifier import Classifier

        source, kind = Path(request.file).expanduser(), output.suffix.lower().removeprefix(".")
        if kind not in exporting.WRITERS:
            raise SettingsError(
                {"output": f"The output {output} is none of .{', .'.join(exporting.WRITERS)}; name one that is."}
            )
        if output.is_dir() or os.path.realpath(source) == os.path.realpath(output):
            raise DataError(f"The output {output} is the input or a folder; give another file.")
        columns = request.columns()
        classify_file.open_reviews(source, columns)  # before anything is loaded
        classifier = Classifier(request.adapter, runs_home=self._host.home, restored=True)
        with _draft_folder(output) as folder:
            report = classify_file.classify_file(
                source, columns, classifier, folder, base=request.base, emit=emit, on_predictions=on_predictions
            )
            exporting.WRITERS[kind](folder, folder / f"result.{kind}")
            (folder / f"result.{kind}").replace(output)
        return report


@contextmanager
def _draft_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target`, removed at the end. What cannot be written is a DataError."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise DataError(
            f"{error.filename or target} cannot be written: {error.strerror or 'input or output error'}."
        ) from None
