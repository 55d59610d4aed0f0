"""What each module of each family is for, and which layer it is in: real modules of every family, and names of some
more."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from qlora_demo.engine.memory import ledger
from qlora_demo.engine.models import sources
from qlora_demo.engine.models.blueprint import read_blueprint
from qlora_demo.engine.models.roles import layer_of, role_of
from tests.families import FAMILIES, make_family

ROLES = {"embedding", "attention", "mlp", "norm", "head", "other"}
# Of the two layers of each family, counted by hand: modules of a kind in one layer.
IN_A_LAYER = {
    "gpt2": {"attention": 2, "mlp": 2, "norm": 2},
    "modernbert": {"attention": 2, "mlp": 2},  # and norms, of which the first layer has one less
    "llama": {"attention": 4, "mlp": 3, "norm": 2},
    "qwen3": {"attention": 4, "mlp": 3, "norm": 4},
    "opt": {"attention": 4, "mlp": 2, "norm": 2},
}
IN_A_LAYER |= dict.fromkeys(("bert", "distilbert", "roberta", "deberta-v2"), IN_A_LAYER["opt"])
IN_A_LAYER |= dict.fromkeys(("qwen2", "gemma", "mistral"), IN_A_LAYER["llama"])
HEADS = {"bert": 2, "distilbert": 2, "roberta": 2, "deberta-v2": 2, "modernbert": 3, "t5": 2}  # else the score alone


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[dict[str, Any]]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = make_family(request.param, tmp_path_factory.mktemp(request.param))
    torch.set_num_threads(threads)
    blueprint = read_blueprint(sources.resolve(str(folder)), 5)
    return request.param, [row.to_dict() for row in ledger.architecture(blueprint)]


def test_every_module_of_a_family_has_its_role(family: tuple[str, list[dict[str, Any]]]) -> None:
    name, rows = family
    assert {row["role"] for row in rows} <= ROLES
    sums = {role: sum(row["bytes_before"] for row in rows if row["role"] == role) for role in ROLES}
    assert sum(sums.values()) == sum(row["bytes_before"] for row in rows)
    assert all(sums[role] > 0 for role in ROLES - {"other"}), sums
    assert sum(row["role"] == "head" for row in rows) == HEADS.get(name, 1)
    # Quantized is what multiplies inside layers; of that only T5's wo is kept, which the library holds in FP32.
    assert {row["role"] for row in rows if row["changed"]} == {"attention", "mlp"}
    inside = [row for row in rows if row["role"] in ("attention", "mlp")]
    dense = {row["name"].rpartition(".")[2] for row in inside if not row["changed"]}
    assert dense == ({"wo"} if name == "t5" else set())
    # What has no role of its own has no weights: position ids and rotary frequencies.
    assert {row["name"].rpartition(".")[2] for row in rows if row["role"] == "other"} <= {"embeddings", "rotary_emb"}
    assert sums["other"] < 0.05 * sum(sums.values())


def test_every_layer_of_a_family_is_numbered(family: tuple[str, list[dict[str, Any]]]) -> None:
    name, rows = family
    assert {row["layer"] for row in rows} == {None, 0, 1}
    assert all((row["layer"] is None) == ("*" not in row["group"]) for row in rows)
    assert {row["role"] for row in rows if row["layer"] is None} <= {"embedding", "norm", "head", "other"}
    found = Counter((row["layer"], row["role"]) for row in rows if row["layer"] is not None)
    for role, count in IN_A_LAYER.get(name, {}).items():
        assert (found[0, role], found[1, role]) == (count, count), role
    if name == "t5":
        assert found[0, "attention"] == found[1, "attention"] == 4 + 8 and found[0, "mlp"] == found[1, "mlp"] == 2 + 2


@pytest.mark.parametrize(
    ("name", "kind", "base", "role", "layer"),
    [
        ("transformer.h.7.mlp.c_proj", nn.Linear, "transformer", "mlp", 7),
        ("transformer.h.7.attn.c_proj", nn.Linear, "transformer", "attention", 7),
        ("model.layers.30.block_sparse_moe.experts.5.w1", nn.Linear, "model", "mlp", 30),
        ("model.layers.3.linear_attn.in_proj", nn.Linear, "model", "attention", 3),
        ("transformer.word_embeddings_layernorm", nn.LayerNorm, "transformer", "norm", None),
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output", nn.Linear, "albert", "mlp", 0),
        ("xlm.attentions.4.q_lin", nn.Linear, "xlm", "attention", 4),
        ("model.decoder.project_in", nn.Linear, "model", "other", None),
        ("model", nn.Module, "model", "other", None),
        ("score.0", nn.Linear, "model", "head", None),
        ("score", nn.Linear, "", "head", None),
        ("head.norm", nn.LayerNorm, "model", "head", None),
        ("modeling.layers.0.mlp", nn.Linear, "model", "head", None),
    ],
)
def test_roles_by_name(name: str, kind: type[nn.Module], base: str, role: str, layer: int | None) -> None:
    assert (role_of(name, kind, base), layer_of(name, base)) == (role, layer)
