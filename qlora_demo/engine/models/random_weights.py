"""A checkpoint of a given shape with random weights, for measuring a model whose weights are not at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from ...core.errors import DeviceError
from .blueprint import Blueprint
from .sources import INDEX, ModelSource


def random_checkpoint(blueprint: Blueprint, folder: Path) -> ModelSource:
    """A checkpoint of that shape with random FP16 weights, written shard by shard into `folder`.

    Holds at most about a gigabyte at a time. The head is left out, as in a real base model, and so is what the source's
    own checkpoint lacks. Raises DeviceError when the disk is too small."""
    absent = set(blueprint.plan.new_modules)
    shapes = {
        name: tuple(parameter.shape)
        for name, parameter in blueprint.model.named_parameters()
        if name.rpartition(".")[0] not in absent
    }
    blueprint.config.save_pretrained(folder)
    index: dict[str, str] = {}
    try:
        for number, names in enumerate(_shards(shapes)):
            file = f"model-{number:05}.safetensors"
            save_file(
                {name: torch.empty(shapes[name], dtype=torch.float16).normal_(0, 0.02) for name in names},
                folder / file,
                metadata={"format": "pt"},
            )
            index.update(dict.fromkeys(names, file))
    except (OSError, RuntimeError) as error:  # safetensors reports a full disk as its own RuntimeError
        raise DeviceError(
            f"Random weights for this shape cannot be written to {folder.parent} ({error}); "
            "set TMPDIR to a larger disk, or ask only for the prediction."
        ) from error
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return ModelSource(blueprint.name, folder, "", blueprint.name, False)


def _shards(shapes: dict[str, tuple[int, ...]], limit: int = 500_000_000) -> Iterator[list[str]]:
    """Names in groups of at most `limit` weights (but at least one name)."""
    group: list[str] = []
    held = 0
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group
