"""What a module of a classifier is for, read off its name and class: embedding, attention, MLP, norm, head.

Rules of naming that hold across transformers' families. Pure: knows neither tensors nor configurations.
"""

from __future__ import annotations

import re
from typing import Literal

from torch import nn

from .layers import HEAD

Role = Literal["embedding", "attention", "mlp", "norm", "head", "other"]
ATTENTION = re.compile("attn|attention", re.IGNORECASE)  # attn, self_attn, attentions, SelfAttention, EncDecAttention
# intermediate and output are BERT's two halves of an MLP, block_sparse_moe and experts those of mixtures,
# DenseReluDense T5's.
MLP = re.compile(r"mlp|ffns?|feed_?forward|intermediate|output|fc\d?$|fc_|dense\w*dense|moe|expert", re.IGNORECASE)


def role_of(name: str, kind: type[nn.Module], base: str = "") -> Role:
    """The role of the module `name` of class `kind`; `base` is the attribute that holds the base model ("" = there is
    none).

    The head is all outside the base, and poolers; its norms and matrices count as head. "other" is what no rule knows:
    rotary frequencies, position ids, projections of some families."""
    if _is_outside(name, base) or HEAD.search(name):
        return "head"
    if issubclass(kind, nn.Embedding):
        return "embedding"
    if "norm" in kind.__name__.lower():
        return "norm"
    parts = name.split(".")
    # First: the output of BERT's attention is called output, too.
    if any(ATTENTION.search(part) for part in parts):
        return "attention"
    if any(MLP.search(part) for part in parts):
        return "mlp"
    return "other"


def layer_of(name: str, base: str = "") -> int | None:
    """Number of the transformer layer that the module is in: the first number of its name. None outside layers and for
    the head.

    An encoder's and a decoder's layers are numbered from 0 each.
    """
    if _is_outside(name, base):
        return None
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _is_outside(name: str, base: str) -> bool:
    return bool(base) and name != base and not name.startswith(base + ".")
