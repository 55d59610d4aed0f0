"""See, run and trust QLoRA: `python app.py` serves the page; this is what a Space runs."""

import sys
from contextlib import suppress

from qlora_demo.host.environment import default_home, is_public, prepare_environment, read_address

prepare_environment()  # gradio and huggingface_hub read it once, when they are imported
with suppress(ImportError):
    import spaces  # noqa: F401  on ZeroGPU it must come before torch, whose CUDA calls it takes over

from qlora_demo.core.errors import DemoError  # noqa: E402


def main() -> int:
    """Serve until interrupted; 2 where the settings do not allow it."""
    try:
        address = read_address()
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    from qlora_demo.jobs.store import Store
    from qlora_demo.services.app import Services
    from qlora_demo.ui import build_app
    from qlora_demo.ui.server.downloads import files_route
    from qlora_demo.ui.server.theme import launch
    from qlora_demo.zerogpu import launcher

    services = Services(Store(default_home()), public=is_public(), launch=launcher())
    page = build_app(services)
    try:
        launch(page, address, [files_route(services.store)])
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    services.warm_up()
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
