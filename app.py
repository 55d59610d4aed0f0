"""See, run and trust QLoRA: `python app.py` serves the page; this is what a Space runs."""

import os
import sys
from contextlib import suppress

from qlora_demo.hosting import default_home, is_public, make_cache_writable, read_address

# Before gradio is imported: it reads these once.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_SSR_MODE", "False")
if is_public():  # what strangers have fetched is not fetched with the host's token: its private models are not for them
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
with suppress(ImportError):
    import spaces  # noqa: F401  on ZeroGPU it must come before torch, whose CUDA calls it takes over

from qlora_demo.errors import DemoError
from qlora_demo.jobs.store import Store


def main() -> int:
    """Serve until interrupted; 2 where the settings do not allow it."""
    try:
        address = read_address()
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    make_cache_writable(default_home())
    from qlora_demo.services import Services
    from qlora_demo.ui import build_app
    from qlora_demo.ui.downloads import files_route
    from qlora_demo.ui.theme import launch
    from qlora_demo.zerogpu import launcher

    services = Services(Store(default_home()), public=is_public(), launch=launcher())
    page = build_app(services)
    launch(page, address, [files_route(services.store)])
    services.warm_up()
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
