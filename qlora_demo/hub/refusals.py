"""Why the Hub did not take what was sent, each in one sentence: what is wrong, and what to do.

Reads what huggingface_hub raises. No sentence repeats the Hub's own words, an address or a path: there, secrets could
stand."""

from __future__ import annotations

import errno
import logging
import re
from json import JSONDecodeError

from huggingface_hub import constants, errors
from huggingface_hub.utils import validate_repo_id

from ..core.cancellation import hub_forbidden
from ..core.errors import DemoError, HubError

LOG_IN = "run `hf auth login` with a token that may write, and try again"
_FULL = re.compile(r"storage limit|storage quota|quota exceeded|exceeded your .*storage", re.IGNORECASE)
_EXPIRED = re.compile(r"\bexpired\b", re.IGNORECASE)


class _Silent(logging.Filter):
    """Drops what the client says of its own second tries, which names addresses with signatures; and of Xet, left on
    purpose.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not re.search("while requesting|Xet Storage", record.getMessage())


_SILENT = _Silent()


def hush() -> None:
    """Keeps addresses with signatures out of the logs of this process; called again, it does nothing more."""
    for name in ("huggingface_hub.utils._http", "huggingface_hub._commit_api"):
        logging.getLogger(name).addFilter(_SILENT)


def check_name(repo: str) -> str:
    """The name, if a repository can be called so (user/name). Raises HubError with the reason."""
    reason = "it has not the form user/name" if repo.count("/") != 1 or not all(repo.split("/")) else ""
    if not reason:
        try:
            for part in repo.split("/"):
                validate_repo_id(part)
            validate_repo_id(repo)
        except errors.HFValidationError:
            reason = (
                "the Hub takes at most 96 letters, digits, '-', '_' and '.', with no '--', '..' or '.git', and neither"
                " '-' nor '.' at an end"
            )
    if reason:
        raise HubError(f"{repo[:120]!r} is no name for a repository: {reason}; give another one.")
    return repo


def check_online(repo: str) -> None:
    """Raises HubError where the Hub must not be asked."""
    if hub_forbidden() or constants.HF_HUB_OFFLINE:
        raise HubError(
            f"{repo} is not sent, because offline mode is on (QLORA_DEMO_OFFLINE or HF_HUB_OFFLINE); switch it off to"
            " publish."
        )


def in_words(error: Exception, repo: str) -> Exception:
    """The sentence for what went wrong while `repo` was written to; what is no fault of Hub, disk or user is handed
    back as it is.
    """
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client wraps what fails in one of its uploading threads
    if isinstance(error, DemoError):
        return error
    if isinstance(error, errors.LocalTokenNotFoundError):
        return HubError(f"You are not logged in to the Hub; {LOG_IN}.")
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{repo!r} is no name for a repository; give one such as user/name.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(
            f"{repo} is not sent, because the Hub's offline mode is on (HF_HUB_OFFLINE); switch it off to publish."
        )
    if isinstance(error, errors.HfHubHTTPError):
        return HubError(_answer(error, repo))
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return HubError(f"The Hub did not answer in time for {repo}; try again: what has arrived is not sent twice.")
    if isinstance(error, ConnectionError) or type(error).__module__.partition(".")[0].startswith("httpx"):
        return HubError(
            f"The connection to the Hub failed for {repo}; check the network and try again: what has arrived is not"
            " sent twice."
        )
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full; make room" if full else "its files cannot be read; check the disk"
        return HubError(f"{repo} was not sent, because {what}, and try again.")
    if isinstance(error, JSONDecodeError):
        return HubError(f"The Hub gave no answer that can be read for {repo}; try again later.")
    if isinstance(error, ValueError) and "LFS batch" in str(error):
        return HubError(
            _full(repo) if _FULL.search(str(error)) else f"The Hub does not take the files of {repo}; try again later."
        )
    return error


def _answer(error: errors.HfHubHTTPError, repo: str) -> str:
    """The sentence for a status that is an error; the Hub's own words are only looked at."""
    # In the header, too: of a token that it does not take, the client says less than the Hub did.
    status, said = error.response.status_code, f"{error} {error.response.headers.get('X-Error-Message')}"
    if status == 401:
        what = "Your token for the Hub has expired" if _EXPIRED.search(said) else "The Hub does not know your token"
        return f"{what}; {LOG_IN}."
    if status == 403 and not _FULL.search(said):
        return (
            f"Your token may not write to {repo}; take one with the right to write there, or give a name of your own."
        )
    if status in (402, 403, 507):
        return (
            _full(repo) if status != 402 else f"The Hub asks for a payment for {repo}; see your account's plan there."
        )
    if status == 404:
        return f"{repo} is not on the Hub, or its branch is not, or you may not see it; check the name."
    if status == 409:
        return f"The name {repo} is taken; give another one."
    if status == 412:
        return f"{repo} was changed by somebody else meanwhile; look at it, and publish again."
    if status == 413:
        return f"The Hub finds the files of {repo} too large; publish fewer or smaller ones."
    if status == 429:
        return (
            f"The Hub asks for a pause, because it had too many requests of yours; publish {repo} again in a few"
            " minutes."
        )
    if status >= 500:
        return f"The Hub failed (status {status}) for {repo}; try again later: what has arrived is not sent twice."
    return f"The Hub refused {repo} (status {status}); check the name and your token's rights."


def _full(repo: str) -> str:
    return (
        f"There is no room for {repo} in your account on the Hub; delete something there, or publish it as public, or"
        " take a larger plan."
    )
