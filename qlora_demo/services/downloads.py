"""What the Hub would have to send, and whether a model of the Hub is small enough for a public host."""

from __future__ import annotations

from pathlib import Path

from .. import engine
from ..core.config import RunConfig
from ..core.errors import HubError, SettingsError
from ..core.names import SAMPLE
from ..core.records import Download
from ..core.requests import MemoryRequest
from ..host import limits
from ..host.host import Host
from ..storage import uploads


def check_model(host: Host, model: str, revision: str) -> None:
    """Whether a model may be used here: on a public host by what the Hub says of its size, then by its configuration.

    Raises SettingsError, HubError, ModelError.
    """
    if not host.public:
        return
    engine.load()
    from ..engine.models import sources

    name = sources.canonical(model)
    if name in limits.MODELS | limits.SHAPES and not revision:
        return
    if sources.is_local(model) or Path(model).exists():
        raise SettingsError({"model": "On a public host a model is `sample` or a name on the Hub, never a path."})
    summary = sources.inspect_hub(name, revision)
    limits.check_size(name, summary.parameters, sum(file.size_bytes for file in summary.files))
    limits.check_shape(name, sources.read_config(sources.resolve(name, revision, config_only=True).folder))


def needed_downloads(host: Host, request: MemoryRequest | RunConfig) -> list[Download]:
    """What the Hub would have to send before the job can begin: model, reviews. Raises DemoErrors."""
    if host.public:
        limits.check_names(request)
    check_model(host, request.model, request.revision)
    engine.load()
    from ..engine.data import dataset, hub
    from ..engine.models import sources

    summaries = []
    if request.model != SAMPLE and not sources.is_local(request.model):
        try:
            summaries.append(sources.inspect_hub(sources.canonical(request.model), request.revision))
        except HubError as error:
            # A Hub that does not answer is no hindrance where all of the model is in its cache.
            try:
                sources.resolve(request.model, request.revision, download=False)
            except HubError:
                raise error from None
    uploaded = isinstance(request, RunConfig) and uploads.locate(request.data, host.home)
    if isinstance(request, RunConfig) and not uploaded and dataset.is_on_hub(request.data):
        summaries.append(hub.inspect_reviews(request.data, request.data_config, request.data_revision))
    return [
        Download(it.id, it.kind, it.download_bytes, it.free_disk_bytes, it.license, it.gated)
        for it in summaries
        if not it.cached
    ]
