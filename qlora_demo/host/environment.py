"""Where and to whom the app is served, and where it keeps things there, read from the environment before anything slow
is imported.

Knows neither the page nor its server. What a Space sets: huggingface.co/docs/hub/spaces-overview, "Helper environment
variables"."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..core.errors import SettingsError

LOCAL = ("127.0.0.1", "localhost", "::1")
BUCKET = Path("/data")  # where a Space mounts its bucket, if it has one
# A visitor who is not signed in has two minutes a day, and today's hardware books half as much again (spaces,
# zero/client.py).
GPU_CALL_SECONDS, GPU_CALL_BOOKED = 75, 1.5
ROOT = Path(__file__).parents[2]  # where app.py lies


@dataclass(frozen=True)
class Address:
    """`login` is (user, password), None where anybody who reaches the port may come in."""

    host: str
    port: int
    login: tuple[str, str] | None


def read_address() -> Address:
    """GRADIO_SERVER_NAME, GRADIO_SERVER_PORT and QLORA_DEMO_AUTH. Raises SettingsError for what will not do."""
    address = Address(os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), _port(), _login())
    if address.host not in LOCAL and address.login is None and not on_space():
        raise SettingsError(
            {
                "host": (
                    f"The host {address.host} is open to anyone; set QLORA_DEMO_AUTH=user:password, or HOST=127.0.0.1."
                )
            }
        )
    _refuse_taken(address)
    return address


def is_public() -> bool:
    """Whether anyone on the internet may use the app: QLORA_DEMO_PUBLIC=1, and on a Space unless it says 0."""
    return os.environ.get("QLORA_DEMO_PUBLIC", "1" if on_space() else "0") == "1"


def on_space() -> bool:
    return os.environ.get("SYSTEM") == "spaces"


def on_zero_gpu() -> bool:
    """Whether a GPU exists only inside a call (zerogpu.py); outside one, CUDA is played and tells nothing true."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t")


def zero_gpu_words() -> str:
    """What the page says of the GPU before a run, where there is one inside a call alone."""
    booked = GPU_CALL_SECONDS * GPU_CALL_BOOKED
    return (
        f"Each run or measurement borrows a GPU for at most {GPU_CALL_SECONDS} s, which counts as {booked:.0f} s of"
        " your daily quota (two minutes without a login, five with one); a longer run is stopped in time and its"
        " adapter kept. Typed reviews and files are classified on the CPU and cost no quota."
    )


def default_home() -> Path:
    """Where runs lie, absolute: QLORA_DEMO_HOME, or `runs` beside app.py; on a Space its bucket first, any folder it
    may write last.
    """
    named = os.environ.get("QLORA_DEMO_HOME")
    if named or not on_space():
        return (Path(named).expanduser() if named else ROOT / "runs").absolute()
    for parent in (BUCKET, ROOT):
        if os.access(parent, os.W_OK):
            return (parent / "runs").absolute()
    return Path(tempfile.gettempdir(), "qlora-demo", "runs")


def storage_words(home: Path) -> str:
    """What becomes of runs at a restart, in a sentence; "" where they simply stay."""
    if not on_space():
        return ""
    if BUCKET in home.parents and BUCKET.is_mount():
        return "Runs are kept in this Space's bucket."
    return "Runs vanish when this Space restarts: download or publish what you want to keep."


def duplicate_address() -> str:
    """Where a visitor makes a copy of this Space; "" elsewhere."""
    space = os.environ.get("SPACE_ID", "")
    return (
        f"https://huggingface.co/spaces/{quote(space)}?duplicate=true" if on_space() and space.count("/") == 1 else ""
    )


def usable_cores() -> int:
    """Processors that this process may keep busy: those it may run on, within what its Space or its control group (a
    container) grants.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    grants = [float(allowed), _space_cores(), _group_cores(Path("/sys/fs/cgroup"))]
    return max(1, int(min(cores for cores in grants if cores is not None)))


def limit_threads() -> None:
    """OpenMP, and with it torch, counts the host's processors where a container may use a few: its threads would wait
    for each other's.
    """
    if (cores := usable_cores()) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def prepare_environment() -> None:
    """What libraries read once, when they are imported: before gradio and huggingface_hub are."""
    limit_threads()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("GRADIO_SSR_MODE", "False")
    if is_public():  # visitors' models are not fetched with the host's token: its private models are not for them
        os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    if not {"HF_HOME", "HF_HUB_CACHE"} & os.environ.keys():
        place = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "huggingface"
        while not place.exists():
            place = place.parent
        if not os.access(place, os.W_OK):  # the cache goes beside the runs
            os.environ["HF_HOME"] = str(default_home() / ".cache" / "huggingface")


def _space_cores() -> float | None:
    """CPU_CORES as a Space's hardware has them, such as "2"; None elsewhere."""
    try:
        return float(os.environ["CPU_CORES"]) if on_space() else None
    except (KeyError, ValueError):
        return None


def _group_cores(group: Path) -> float | None:
    """Processors' worth of time that a control group grants (cpu.max, version 1: cpu.cfs_*); None where it sets no
    bound.
    """
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if int(quota) < 0 else int(quota) / int(period)
    return None


def _port() -> int:
    stated = os.environ.get("GRADIO_SERVER_PORT", "7860")
    if not stated.isdigit() or not 1 <= int(stated) <= 65535:
        raise SettingsError({"port": f"The port is {stated!r}; give a number from 1 to 65535."})
    return int(stated)


def _login() -> tuple[str, str] | None:
    stated = os.environ.get("QLORA_DEMO_AUTH", "")
    user, _, password = stated.partition(":")
    if stated and not (user and password):
        raise SettingsError(
            {"auth": "QLORA_DEMO_AUTH is not of the form user:password; set both, with a colon between."}
        )
    return (user, password) if stated else None


def _refuse_taken(address: Address) -> None:
    """Gradio would take another port or fail late, and the user would be shown somebody else's page."""
    with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise SettingsError(
                {
                    "port": (
                        f"Port {address.port} on {address.host} cannot be used ({error.strerror}); choose another with"
                        " PORT=."
                    )
                }
            ) from None
