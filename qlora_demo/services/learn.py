"""How a model shrinks, one of its layers quantized, and what an optimizer keeps: for the Learn tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import engine
from ..core.errors import DemoError, ModelError
from ..core.memory_report import LayerStudy, MemoryReport, OptimizerState, ShapeStudy
from ..core.names import SAMPLE
from ..host.host import Host

if TYPE_CHECKING:
    from ..engine.memory.layer_explorer import Layer


class LearnService:
    """Any thread may ask."""

    def __init__(self, host: Host):
        self._store = host.store

    def predict_shape(self, model: str) -> ShapeStudy:
        """How a model shrinks whose shape the app carries (layer_explorer.predict_shape). Raises ModelError."""
        engine.load()
        from ..engine.memory import layer_explorer

        return layer_explorer.predict_shape(model)

    def studied_model(self) -> str:
        """The model that was measured last, where its weights are here; else the sample."""
        engine.load()
        from ..engine.models import sources

        job = self._store.latest("memory")
        try:
            if job is None or job.report(MemoryReport) is None:
                return SAMPLE
            model = str(job.settings()["model"])
            return model if sources.resolve(model, download=False).has_weights else SAMPLE
        except DemoError:
            return SAMPLE

    def list_layers(self, model: str = SAMPLE) -> list[tuple[str, tuple[int, int]]]:
        """Names and shapes of a model's quantizable layers; nothing is downloaded for them. Raises DemoErrors."""
        return [(layer.name, layer.shape) for layer in self._layers_of(model).values()]

    def examine_layer(
        self, model: str, name: str, kind: str, block_size: int, double: bool, weights: str
    ) -> LayerStudy:
        """One layer of a model quantized in numpy. Raises DemoErrors."""
        engine.load()
        from ..engine.memory import layer_explorer
        from ..engine.models import sources

        layer_explorer.check_choice(kind, block_size, weights)
        layer = self._layers_of(model).get(str(name))
        if layer is None:
            raise ModelError(f"{model} has no quantizable layer {str(name)[:80]!r}; choose one of the list.")
        own = layer_explorer.read_weights(sources.resolve(model, download=False), layer)
        chosen = layer_explorer.choose_weights(own, weights)
        return layer_explorer.examine(chosen, kind, block_size, bool(double))  # type: ignore[arg-type]

    def optimizer_state(self, model: str = SAMPLE) -> OptimizerState:
        """Bytes of AdamW's state: of the shipped run, or of training every weight of a model whose shape is carried.
        Raises DemoErrors.
        """
        engine.load()
        from ..engine.memory import layer_explorer
        from ..engine.models import adapters

        if model == SAMPLE:
            return layer_explorer.optimizer_of_run(adapters.find_adapter(SAMPLE))
        return layer_explorer.optimizer_state(self.predict_shape(model).parameters)

    @staticmethod
    def bits_of_constants(block_size: int) -> tuple[float, float]:
        """Bits of quantization constants a weight, without and with double quantization."""
        engine.load()
        from ..engine.memory import nf4

        return nf4.bits_of_constants(block_size, False), nf4.bits_of_constants(block_size, True)

    def _layers_of(self, model: str) -> dict[str, Layer]:
        engine.load()
        from ..engine.memory import layer_explorer
        from ..engine.models import sources

        return layer_explorer.list_layers(sources.resolve(model, download=False))
