"""The app's functions as its handlers call them: from many threads at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qlora_demo.core.config import RunConfig
from qlora_demo.core.errors import AdapterError, ModelError, RunError, SettingsError
from qlora_demo.core.requests import MemoryRequest
from qlora_demo.jobs.store import Store
from qlora_demo.services.app import Services
from tests.serving import ROOT, app_environment

ADAPTER = ROOT / "assets" / "adapter"


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("QLORA_DEMO_OFFLINE", "1")
    # No worker starts: what is tested is what the app does itself.
    return Services(Store(tmp_path / "runs"), launch=lambda folder: 2**22 - 1)


def test_models_are_predicted_and_loaded_at_once(services: Services, tmp_path: Path) -> None:
    """PEFT patches torch's modules for the whole process while it builds one, so two builds at a time break each
    other.
    """
    services.warm_up()
    copies = [str(shutil.copytree(ADAPTER, tmp_path / f"copy{i}")) for i in range(3)]
    request = MemoryRequest(stages=("lora",))
    with ThreadPoolExecutor(8) as pool:
        predicted = [pool.submit(services.memory.predict, request) for _ in range(8)]
        typed = [pool.submit(services.classify.classify, "I love it!", adapter) for adapter in copies]
    assert len({future.result().stages[0].total_bytes for future in predicted}) == 1
    assert len({tuple(future.result().probabilities.values()) for future in typed}) == 1


def test_a_fresh_app_answers_everything_that_is_asked_at_once(tmp_path: Path) -> None:
    """Threads that import transformers and PEFT from different ends break each other's import, now and then: one thread
    does it.
    """
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
assert len({importers[name] for name in ("transformers", "transformers.pytorch_utils", "peft", "peft.tuners")}) == 1, "not one thread"
[thread.join() for thread in threading.enumerate() if thread.name == "warm-up"]
"""  # noqa: E501
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=app_environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_only_who_has_the_key_stops_a_run_on_a_public_host(services: Services) -> None:
    started = services.train.start(RunConfig())
    services.host.public = True
    for key in ("", "guess"):
        with pytest.raises(RunError, match="key does not belong"):
            services.train.stop(started.run, key, at_home=True)
    assert services.store.job(started.run).state().key_hash not in ("", started.key)


def test_a_public_host_reads_no_paths(services: Services, tmp_path: Path) -> None:
    services.host.public = True
    (tmp_path / "reviews.csv").write_text("text,label\ngood,5\n")
    with pytest.raises(SettingsError, match="the reviews are a file that you upload"):
        services.train.start(RunConfig(data=str(tmp_path / "reviews.csv")))
    with pytest.raises(RunError, match="choose one of the list"):
        services.classify.classify("Good.", str(ADAPTER))


def test_a_folder_that_is_no_model_is_refused_before_it_waits_in_line(services: Services, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        services.train.start(RunConfig(model=str(tmp_path)))
    assert services.train.runs() == []
    with pytest.raises(AdapterError, match="There is no adapter 'nowhere'"):
        services.classify.classify("Good.", "nowhere")
