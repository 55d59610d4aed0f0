"""Publishes a prepared folder as a model on the Hub: all of it or nothing, and never over a model that this app did not
put there.

One commit holds all files, so a cut leaves the old whole model or the new one; large files that have arrived are not
sent again. Uses the token it is given and looks for no other. Knows nothing of what is in the files."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors
from huggingface_hub.utils import get_session, hf_raise_for_status
from huggingface_hub.utils.sha import git_hash

from ..core.cancellation import DownloadStopped, OnProgress, ShouldStop, never, run_within, silent
from ..core.errors import AlreadyThere, HubError
from ..core.format import size
from ..storage.packs import Published
from .refusals import LOG_IN, check_name, check_online, hush, in_words

T = TypeVar("T")

MESSAGE = "Publish the adapter and its report"
MARK = "qlora_demo.json"  # in every model that this app has published
BY_HUB = (".gitattributes",)  # what the Hub puts into a new repository by itself
ANSWER_SECONDS = 15.0
COMMIT_SECONDS = 90.0
STALL_SECONDS = 60.0  # longer than the client's own waits between its tries of an upload
WAITS_SECONDS = (1.0, 3.0)  # before the second try of a request, and the third
PASSING = (429, 500, 502, 503, 504)
BRANCH = re.compile(r"(?!refs/)[A-Za-z0-9](?:[\w./-]{0,98}[\w-])?")


@dataclass(frozen=True)
class _Sender:
    """What is sent, and where to. The token stays inside the client and out of every representation."""

    api: HfApi = field(repr=False)
    repo: str
    branch: str
    folder: Path
    files: tuple[Path, ...]
    on_progress: OnProgress
    should_stop: ShouldStop

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def ask(self, work: Callable[[], T]) -> T:
        """`work()`, tried again where the Hub fails in a way that passes; not where it is silent, since the first try
        may get through.
        """
        return _persist(lambda: run_within(work, ANSWER_SECONDS, should_stop=self.should_stop))


class _Watched(io.BufferedReader):
    """A file that counts how far it was read."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self.done_bytes = 0

    def read(self, count: int | None = -1, /) -> bytes:
        block = super().read(count)
        self.done_bytes = self.tell()  # a second try begins at 0 again
        return block


def publish(
    folder: Path,
    repo: str,
    *,
    token: str | None,
    private: bool = False,
    revision: str = "",
    replace: bool = False,
    on_progress: OnProgress = silent,
    should_stop: ShouldStop = never,
) -> Published:
    """Sends all files of `folder` to the model `repo` (user/name) in one commit; the same content twice makes no second
    commit.

    A repository is created where there is none; one that stands is written to only where it is empty, or holds a model
    of this app and `replace` says so: its files then make room, its history stays. `revision`: a branch, made where
    there is none. `private` counts for a new repository. on_progress(text, share done) hears of bytes. Raises HubError
    for all that Hub, disk or user can do wrong, DownloadStopped once `should_stop()` is true; then nothing was
    published."""
    hush()
    check_name(repo)
    if revision and (
        not BRANCH.fullmatch(revision) or ".." in revision or "//" in revision or revision.endswith(".lock")
    ):
        raise HubError(f"{revision[:80]!r} is no name for a branch; give letters, digits, '-', '_', '.' and '/'.")
    check_online(repo)
    if not token:
        raise HubError(f"You are not logged in to the Hub; {LOG_IN}.")
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))
    if not any(path.name == "README.md" for path in files):
        raise HubError(f"There is nothing to publish as {repo}: the folder holds no model with its card.")
    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    sender = _Sender(api, repo, revision or "main", folder, files, on_progress, should_stop)
    try:
        on_progress(f"{repo}: asking the Hub", None)
        _check_writer(sender.ask(api.whoami), repo)
        _check_card(sender)
        return _send(sender, _claim(sender, private, replace))
    except DownloadStopped:
        raise DownloadStopped("The upload was stopped; nothing was published.") from None
    except Exception as error:
        # Not chained: what the client raises holds addresses with signatures, and the request with its token.
        raise in_words(error, repo) from None


def _check_writer(user: dict[str, Any], repo: str) -> None:
    """Raises HubError where the Hub itself says that this user or token cannot write there; what it does not say shows
    in the attempt.
    """
    owner = repo.partition("/")[0]
    places = {str(user["name"]).lower()} | {str(org["name"]).lower() for org in user.get("orgs") or ()}
    if (user.get("auth") or {}).get("accessToken", {}).get("role") == "read":
        raise HubError(f"Your token may only read, so it cannot publish {repo}; {LOG_IN}.")
    if owner.lower() not in places:
        raise HubError(
            f"{owner} is neither you ({user['name']}) nor an organisation of yours; give"
            f" {user['name']}/{repo.partition('/')[2]}."
        )


def _check_card(sender: _Sender) -> None:
    """Raises HubError for a card whose metadata the Hub does not take: before anything is created or sent."""
    payload = {"content": (sender.folder / "README.md").read_text(encoding="utf-8"), "repoType": "model"}

    def check() -> None:
        hf_raise_for_status(get_session().post(f"{constants.ENDPOINT}/api/validate-yaml", json=payload))

    try:
        sender.ask(check)
    except errors.BadRequestError:
        raise HubError(
            f"The Hub does not take the card of {sender.repo}: its metadata are not valid; check the licence."
        ) from None


def _claim(sender: _Sender, private: bool, replace: bool) -> Any:
    """The head of the branch that will be written to, created where it is missing. Raises HubError for what is not ours
    to write to.
    """
    api, repo = sender.api, sender.repo
    info = _look(sender, "main")
    if info is None:
        try:
            sender.ask(partial(api.create_repo, repo, private=private))
        except errors.HfHubHTTPError as error:
            # Taken: by a first try whose answer was lost, or by what may not be seen.
            if error.response.status_code != 409:
                raise
        if (info := _look(sender, "main")) is None or not _is_empty(info):
            raise HubError(f"The name {repo} is taken; give another one.")
    if private and not info.private:
        raise HubError(
            f"{repo} is public already, and you asked for a private one; make it private on its page, or give another"
            " name."
        )
    _check_ours(sender, info, replace or sender.branch != "main")
    if sender.branch == "main":
        return info
    if (branch := _look(sender, sender.branch)) is None:
        sender.ask(partial(api.create_branch, repo, branch=sender.branch, exist_ok=True))
        return _look(sender, sender.branch)
    _check_ours(sender, branch, replace or branch.sha == info.sha)
    return branch


def _check_ours(sender: _Sender, info: Any, replace: bool) -> None:
    """Raises HubError for a model that this app did not publish, and for one that it did unless `replace` says to put
    another there.
    """
    if _is_empty(info) or _holds(info, sender):
        return
    if MARK not in {item.rfilename for item in info.siblings}:
        raise HubError(
            f"{sender.repo} holds another model, which this app has not published and leaves alone; give another name."
        )
    if not replace:
        raise AlreadyThere(
            f"{sender.repo} holds a model already; give another name, or --replace to put this one in its place."
        )


def _send(sender: _Sender, head: Any) -> Published:
    """The files, then the commit; an answer that was lost on its way is looked for on the Hub."""
    names = tuple(map(sender.name, sender.files))
    if not _holds(head, sender):
        stale = sorted({item.rfilename for item in head.siblings} - {*names, *BY_HUB})
        with ExitStack() as opened:  # closed, they also end a thread that still sends
            additions = _upload(
                sender, {sender.name(path): opened.enter_context(_Watched(path)) for path in sender.files}
            )
            head = _commit(
                sender, [*additions, *(CommitOperationDelete(name, is_folder=False) for name in stale)], head
            )
    sender.on_progress(f"{sender.repo}: published", 1.0)
    place = "" if sender.branch == "main" else f"/tree/{sender.branch}"
    return Published(f"{constants.ENDPOINT}/{sender.repo}{place}", str(head.sha), names)


def _upload(sender: _Sender, watched: dict[str, _Watched]) -> list[CommitOperationAdd]:
    """Sends the large files, which nobody sees before the commit; as open files they go by plain HTTP: Xet's threads
    cannot be stopped.
    """
    additions = [CommitOperationAdd(name, file) for name, file in watched.items()]  # reads each file once, for its hash
    for file in watched.values():
        file.done_bytes = 0
    total = sum(path.stat().st_size for path in sender.files)
    moved = [0.0, time.monotonic()]

    def report() -> None:
        done = sum(file.done_bytes for file in watched.values())
        if done != moved[0]:
            moved[:] = done, time.monotonic()
        elif time.monotonic() - moved[1] > STALL_SECONDS:
            raise TimeoutError("the upload does not move")
        sender.on_progress(f"{sender.repo}: {size(done)} of {size(total)} sent", min(1.0, done / total))

    work = partial(sender.api.preupload_lfs_files, sender.repo, additions, revision=sender.branch, free_memory=False)
    run_within(work, should_stop=sender.should_stop, each=report)
    return additions


def _commit(sender: _Sender, operations: list[CommitOperationAdd | CommitOperationDelete], head: Any) -> Any:
    """The new head of the branch; from here on nothing can be stopped. Raises as the client does, TimeoutError where
    the Hub is silent.
    """
    if sender.should_stop():
        raise DownloadStopped
    sender.on_progress(f"{sender.repo}: publishing", None)
    sender = changed(sender, should_stop=never)
    commit = partial(
        sender.api.create_commit,
        sender.repo,
        operations,
        commit_message=MESSAGE,
        revision=sender.branch,
        parent_commit=head.sha,
    )

    def attempt() -> Any:
        try:
            run_within(commit, COMMIT_SECONDS)
        except Exception:
            # Its answer may have been lost on the way back.
            now = _look(sender, sender.branch)
            if now is None or not _holds(now, sender):
                raise
            return now
        return _look(sender, sender.branch)

    return _persist(attempt)


def _look(sender: _Sender, revision: str) -> Any:
    """What the Hub says of the repository at a branch; None where there is no such repository or branch that may be
    seen.
    """
    try:
        return sender.ask(partial(sender.api.model_info, sender.repo, revision=revision, files_metadata=True))
    except errors.RevisionNotFoundError:
        return None
    except errors.RepositoryNotFoundError as error:
        if error.response.status_code == 404:
            return None
        raise


def _is_empty(info: Any) -> bool:
    return all(item.rfilename in BY_HUB for item in info.siblings)


def _holds(info: Any, sender: _Sender) -> bool:
    """Whether these very files lie there already, and no others."""
    there = {item.rfilename: item for item in info.siblings if item.rfilename not in BY_HUB}
    here = {sender.name(path): path for path in sender.files}
    if there.keys() != here.keys() or any(there[name].size != path.stat().st_size for name, path in here.items()):
        return False
    return all(_same(path, there[name]) for name, path in here.items())


def _same(path: Path, item: Any) -> bool:
    if item.lfs is None:
        return bool(git_hash(path.read_bytes()) == item.blob_id)
    with path.open("rb") as file:
        return bool(hashlib.file_digest(file, "sha256").hexdigest() == item.lfs.sha256)


def _persist(work: Callable[[], T]) -> T:
    """`work()`, tried again after short waits where it fails in a way that passes."""
    for wait in WAITS_SECONDS:
        try:
            return work()
        except Exception as error:
            if not _passes(error):
                raise
        time.sleep(wait)
    return work()


def _passes(error: Exception) -> bool:
    """Whether a second try may succeed: after a cut, a failure of the server's, a limit of rate."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in PASSING
    cut = type(error).__name__ in ("ConnectError", "ReadError", "WriteError", "RemoteProtocolError")
    return cut or (
        isinstance(error, (ConnectionError, JSONDecodeError)) and not isinstance(error, errors.OfflineModeIsEnabled)
    )
