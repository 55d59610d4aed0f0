"""The HTTP interface: the page's functions under names that do not change. They are MCP tools, too; on a public host
only those that change nothing.

Visitors start and stop runs over HTTP: a model that reads other people's words must not be talked into either.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...core.config import RunConfig
from ...core.names import SAMPLE
from ...core.requests import MemoryRequest
from ...services.app import Services
from ..handlers import handler, visitor

NO_TOOLS = ("start_run", "stop_run")
LIMITS = {"classify": 64, "memory": 2, "start_run": 20, "run": 20, "stop_run": 20, "runs": 20}  # calls at a time


class HttpInterface:
    """Endpoints without components; made inside a Blocks context."""

    def __init__(self, services: Services):
        self._services = services
        for name, limit in LIMITS.items():
            gr.api(getattr(self, name), api_name=name, concurrency_limit=limit)

    @handler
    def classify(self, text: str, adapter: str = SAMPLE) -> dict[str, Any]:
        """Classify one review: its label, stars, expected stars (a mean over the probabilities) and the probability of
        each label.

        Args:
            text: The review.
            adapter: `sample` (the shipped one), or a run's id.
        """
        answer = self._services.classify.classify(str(text), str(adapter)).to_dict()
        return {name: answer[name] for name in ("label", "stars", "expected_stars", "probabilities", "truncated")}

    @handler
    def memory(self, model: str = "sample", labels: int = 5) -> list[dict[str, Any]]:
        """Predict the bytes of a classifier at each stage of QLoRA; nothing but the configuration is fetched.

        Args:
            model: `sample`, or a Hub id such as openai-community/gpt2.
            labels: Number of classes.
        """
        report = self._services.memory.predict(MemoryRequest.read({"model": model, "labels": labels}))
        return [stage.to_dict() for stage in report.stages]

    @handler
    def start_run(self, config: dict[str, Any]) -> dict[str, str]:
        """Start a training run (or queue it); the key is needed to stop it.

        Args:
            config: Settings of the run by name, such as {"max_steps": 30}; what is left out has its default.
        """
        request = RunConfig.read(config if isinstance(config, dict) else {"config": config})
        return vars(self._services.train.start(request, visitor())).copy()

    @handler
    def run(self, run: str) -> dict[str, Any]:
        """Report on a run: its state, steps, metrics and last events; on a public host without its pinned reviews.

        Args:
            run: The run's id.
        """
        return self._services.train.report(run)

    @handler
    def stop_run(self, run: str, key: str) -> dict[str, Any]:
        """Ask a run to stop after its current step; its adapter is kept.

        Args:
            run: The run's id.
            key: What start_run answered.
        """
        self._services.train.stop(run, str(key))
        return self._services.host.summarize(self._services.train.job(run), str(key)).to_dict()

    @handler
    def runs(self) -> list[dict[str, Any]]:
        """List the training runs, newest first."""
        return [run.to_dict() for run in self._services.train.runs()]
