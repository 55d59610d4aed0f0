"""The app's functions as its handlers call them: from many threads at once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qlora_demo.core.requests import MemoryRequest
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services
from tests.commands import python
from tests.serving import ROOT, app_environment


def test_models_are_predicted_and_loaded_at_once(tmp_path: Path) -> None:
    """PEFT patches torch's modules for the whole process while it builds one, so two builds at a time break each
    other."""
    services = Services(Store(tmp_path / "runs"))
    services.warm_up()
    copies = [str(shutil.copytree(ROOT / "assets" / "adapter", tmp_path / f"copy{i}")) for i in range(3)]
    request = MemoryRequest(stages=("lora",))
    with ThreadPoolExecutor(8) as pool:
        predicted = [pool.submit(services.memory.predict, request) for _ in range(8)]
        typed = [pool.submit(services.classify.classify, "I love it!", adapter) for adapter in copies]
    assert len({future.result().stages[0].total_bytes for future in predicted}) == 1
    assert len({tuple(future.result().probabilities.values()) for future in typed}) == 1


def test_a_fresh_app_answers_everything_that_is_asked_at_once(tmp_path: Path) -> None:
    """Threads that import transformers and PEFT from different ends break each other's import, now and then: one thread
    does it."""
    program = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from qlora_demo.core.config import RunConfig
from qlora_demo.core.requests import MemoryRequest
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services

importers = {}

class Watch:
    def find_spec(self, name, path, target=None):
        importers.setdefault(name, threading.get_ident())

sys.meta_path.insert(0, Watch())
services = Services(Store(Path(sys.argv[1])))
services.warm_up()
asked = [lambda: services.needed_downloads(RunConfig()), services.learn.optimizer_state, services.learn.list_layers,
         lambda: services.memory.predict(MemoryRequest()), lambda: services.classify.classify("I love it!"),
         lambda: services.learn.predict_shape("openai-community/gpt2")]
with ThreadPoolExecutor(8) as pool:
    for future in [pool.submit(ask) for ask in asked]:
        future.result()
names = ("transformers", "transformers.pytorch_utils", "peft", "peft.tuners")
assert len({importers[name] for name in names}) == 1, "not one thread"
[thread.join() for thread in threading.enumerate() if thread.name == "warm-up"]
"""
    done = python("-c", program, str(tmp_path), env=app_environment(tmp_path))
    assert done.returncode == 0, done.stderr
