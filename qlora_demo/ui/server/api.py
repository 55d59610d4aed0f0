"""The HTTP interface: the page's functions under names that do not change. They are MCP tools, too; to strangers such
as only look.

For starting and stopping strangers have HTTP: a model that reads a stranger's words must not be talked into either.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...core.config import RunConfig
from ...core.names import SAMPLE
from ...core.requests import MemoryRequest
from ...services.app import Services
from ..handlers import shown, visitor

NO_TOOLS = ("start_run", "stop_run")


def build_api(services: Services) -> None:
    """Endpoints without components; inside a Blocks context."""

    @shown
    def classify(text: str, adapter: str = SAMPLE) -> dict[str, Any]:
        """Classify one review: its label, stars, expected stars (a mean over the probabilities) and the probability of
        each label.

        Args:
            text: The review.
            adapter: `sample` (the shipped one), or a run's id.
        """
        found = services.classify.classify(str(text), str(adapter)).to_dict()
        return {name: found[name] for name in ("label", "stars", "expected_stars", "probabilities", "truncated")}

    @shown
    def memory(model: str = "sample", labels: int = 5) -> list[dict[str, Any]]:
        """Predict the bytes of a classifier at each stage of QLoRA; nothing but the configuration is fetched.

        Args:
            model: `sample`, or a Hub id such as openai-community/gpt2.
            labels: Classes of the head.
        """
        report = services.memory.predict(MemoryRequest.read({"model": model, "labels": labels}))
        return [stage.to_dict() for stage in report.stages]

    @shown
    def start_run(config: dict[str, Any]) -> dict[str, str]:
        """Start a training run (or queue it); the key is needed to stop it.

        Args:
            config: Settings of the run by name, such as {"max_steps": 30}; what is left out has its default.
        """
        asked = RunConfig.read(config if isinstance(config, dict) else {"config": config})
        return vars(services.train.start(asked, visitor())).copy()

    @shown
    def run(run: str) -> dict[str, Any]:
        """Tell how a run fares: its state, steps, metrics and last events; on a public host without its pinned reviews.

        Args:
            run: The run's id.
        """
        return services.train.report(run)

    @shown
    def stop_run(run: str, key: str) -> dict[str, Any]:
        """Ask a run to stop after its current step; its adapter is kept.

        Args:
            run: The run's id.
            key: What start_run answered.
        """
        services.train.stop(run, str(key))
        return services.host.summarize(services.train.job(run), str(key)).to_dict()

    @shown
    def runs() -> list[dict[str, Any]]:
        """List the training runs, newest first."""
        return [run.to_dict() for run in services.train.runs()]

    for endpoint, limit in ((classify, 64), (memory, 2), (start_run, 20), (run, 20), (stop_run, 20), (runs, 20)):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=limit)
