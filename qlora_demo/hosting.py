"""Where and to whom the app is served, read from the environment; refused before anything slow is imported.

Knows neither the page nor its server.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from .errors import SettingsError

LOCAL = ("127.0.0.1", "localhost", "::1")


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
        raise SettingsError({"host": f"The host {address.host} lets strangers in; set QLORA_DEMO_AUTH=user:password, or HOST=127.0.0.1."})
    _refuse_taken(address)
    return address


def is_public() -> bool:
    """Whether strangers may click here: QLORA_DEMO_PUBLIC=1, and on a Space unless it says 0."""
    return os.environ.get("QLORA_DEMO_PUBLIC", "1" if on_space() else "0") == "1"


def on_space() -> bool:
    return os.environ.get("SYSTEM") == "spaces"


def _port() -> int:
    stated = os.environ.get("GRADIO_SERVER_PORT", "7860")
    if not stated.isdigit() or not 1 <= int(stated) <= 65535:
        raise SettingsError({"port": f"The port is {stated!r}; give a number from 1 to 65535."})
    return int(stated)


def _login() -> tuple[str, str] | None:
    stated = os.environ.get("QLORA_DEMO_AUTH", "")
    user, _, password = stated.partition(":")
    if stated and not (user and password):
        raise SettingsError({"auth": "QLORA_DEMO_AUTH is not of the form user:password; set both, with a colon between."})
    return (user, password) if stated else None


def _refuse_taken(address: Address) -> None:
    """Gradio would take another port or fail late, and the user would look at somebody else's page."""
    with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise SettingsError(
                {"port": f"Port {address.port} on {address.host} cannot be used ({error.strerror}); choose another with PORT=."}
            ) from None
