"""Downloads of classified files, zips and corrections: /files/<run>/<token>/<kind>, a route of our own:
Gradio's would reveal this machine's paths, and asks for no permission.

A token is handed out with the page and opens one run's files until the app restarts."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ...core.errors import DemoError
from ...core.file_report import FileReport
from ...jobs.store import Job, Store
from ...storage.corrections import FILE, Feedback
from ...storage.packs import find_pack
from ...storage.result_files import read_lines
from ...storage.uploads import safe_name

_SECRET = secrets.token_bytes(32)
KINDS = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_HEADERS = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
_FEEDBACK, _PACKS = "feedback", "packs"  # no run is called so
NOT_FOUND = PlainTextResponse("Not found.", 404)
_ENDINGS = re.compile(r"(\.(csv|tsv|json|jsonl|parquet|gz|zip))+$", re.I)


def link_to(run: str, kind: str) -> str:
    """Where the page finds a file of a run; a relative address."""
    return f"files/{run}/{_token(run)}/{kind}"


def link_to_feedback() -> str:
    """Where the page finds all corrections."""
    return link_to(_FEEDBACK, "jsonl")


def link_to_pack(place: str, name: str) -> str:
    """Where the page finds a zip; its place, which nobody can guess, is the permission."""
    return f"files/{_PACKS}/{place}/{quote(name)}"


def available_kinds(job: Job) -> list[str]:
    """The kinds of files that a job offers now; an unfinished one has the rows that it came to."""
    return [kind for kind in KINDS if (job.folder / f"predictions.{kind}").is_file()]


def files_route(store: Store) -> Route:
    """Sends the files of the jobs in `store`; what is unknown or not allowed is not found."""

    def send(request: Request) -> Response:
        run, token, kind = (request.path_params[name] for name in ("run", "token", "kind"))
        if run == _PACKS:
            pack = find_pack(store.home, token, kind)
            return (
                FileResponse(pack, media_type="application/zip", filename=kind, headers=_HEADERS) if pack else NOT_FOUND
            )
        if not hmac.compare_digest(token.encode(), _token(run).encode()):
            return NOT_FOUND
        if run == _FEEDBACK:
            return FileResponse(Feedback(store.home).path, media_type=KINDS["jsonl"], filename=FILE, headers=_HEADERS)
        try:
            job = store.job(run)
            if kind not in available_kinds(job):
                return NOT_FOUND
            name = safe_name(f"{_ENDINGS.sub('', Path(job.settings()['file']).name)}-classified.{kind}")
            return _answer(job, kind, name)
        except (DemoError, KeyError):
            return NOT_FOUND

    return Route("/files/{run}/{token}/{kind}", send, methods=["GET"])


def _answer(job: Job, kind: str, name: str) -> Response:
    if kind == "jsonl" and job.report(FileReport) is None:
        # Its worker still writes, or was killed in the middle of a line: the length is not known beforehand.
        attached = f'attachment; filename="{re.sub("[^ -~]", "_", name)}"'
        headers = {**_HEADERS, "Content-Disposition": attached}
        return StreamingResponse(read_lines(job.folder), media_type=KINDS[kind], headers=headers)
    return FileResponse(job.folder / f"predictions.{kind}", media_type=KINDS[kind], filename=name, headers=_HEADERS)


def _token(run: str) -> str:
    return hmac.new(_SECRET, run.encode(), hashlib.sha256).hexdigest()[:32]
