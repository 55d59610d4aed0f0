"""Tiny random base models of many families, saved without a head as safetensors, each with a small working tokenizer.

Built from nothing: no network, no package data. They learn next to nothing; they load, train, quantize and save like
real ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

POSITIONS = 160  # tokens a model can take
TEXT = """I love this product and use it every day. Works exactly as described and arrived early. Great value for the money.
The best purchase I have made this year, my whole family is happy with it. Excellent quality, five stars!
It is okay, nothing special. Average, does what it should, but the instructions are hard to read. Three stars.
Terrible. It broke after two days and the seller never answered. Do not buy this! A complete waste of money, one star.
The color is not as shown and the size was too small, so I returned it. Poor packaging, the box was damaged.
Good enough for the price; the battery could last longer. Not bad, not great. It stopped working after a week."""  # noqa: E501


@dataclass(frozen=True)
class Family:
    """How one family is built. sizes(width, inner, layers, heads) gives its configuration's fields."""

    model_type: str
    sizes: Callable[[int, int, int, int], dict[str, Any]]
    tokenizer: str  # "bytes" (BPE) or "words" (WordPiece)
    special: dict[str, str]  # role -> token, in the order of their ids
    around: str = "$A"  # what the tokenizer puts around a text


def _bert_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": POSITIONS,
    }


def _decoder_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        **_bert_sizes(width, inner, layers, heads),
        "num_key_value_heads": heads // 2,
        "head_dim": 10,
        "tie_word_embeddings": False,
    }


def _gpt2_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {"n_embd": width, "n_inner": inner, "n_layer": layers, "n_head": heads, "n_positions": POSITIONS}


def _distilbert_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "dim": width,
        "hidden_dim": inner,
        "n_layers": layers,
        "n_heads": heads,
        "max_position_embeddings": POSITIONS,
    }


def _t5_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "d_model": width,
        "d_ff": inner,
        "num_layers": layers,
        "num_heads": heads,
        "d_kv": width // heads,
        "decoder_start_token_id": 0,
    }


def _deberta_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        **_bert_sizes(width, inner, layers, heads),
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_hidden_size": width,
    }


def _opt_sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "ffn_dim": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": POSITIONS,
        "word_embed_proj_dim": width,
    }


BERT_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_SPECIAL = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_KNOWN: dict[str, Family] = {
    "gpt2": Family("gpt2", _gpt2_sizes, "bytes", {"eos_token": "<|endoftext|>"}),  # no pad token, as the real one
    "bert": Family("bert", _bert_sizes, "words", BERT_SPECIAL, "[CLS] $A [SEP]"),
    "distilbert": Family("distilbert", _distilbert_sizes, "words", BERT_SPECIAL, "[CLS] $A [SEP]"),
    "roberta": Family(
        "roberta",
        lambda *sizes: {**_bert_sizes(*sizes), "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1},
        "bytes",
        ROBERTA_SPECIAL,
        "<s> $A </s>",
    ),
    "llama": Family(
        "llama", _decoder_sizes, "bytes", {"bos_token": "<|begin|>", "eos_token": "<|end|>"}, "<|begin|> $A"
    ),  # no pad token
    "qwen2": Family("qwen2", _decoder_sizes, "bytes", {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "qwen3": Family("qwen3", _decoder_sizes, "bytes", {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "modernbert": Family(
        "modernbert",
        lambda *sizes: {**_bert_sizes(*sizes), "local_attention": 32},
        "bytes",
        BERT_SPECIAL,
        "[CLS] $A [SEP]",
    ),
    "deberta-v2": Family("deberta-v2", _deberta_sizes, "words", BERT_SPECIAL, "[CLS] $A [SEP]"),
    "opt": Family("opt", _opt_sizes, "bytes", ROBERTA_SPECIAL, "</s> $A"),
    "gemma": Family(
        "gemma", _decoder_sizes, "bytes", {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}, "<bos> $A"
    ),
    "mistral": Family(
        "mistral", _decoder_sizes, "bytes", {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, "<s> $A"
    ),
    "t5": Family(
        "t5", _t5_sizes, "words", {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, "$A </s>"
    ),
}
FAMILIES: tuple[str, ...] = tuple(_KNOWN)
QUICK = ("gpt2", "bert", "llama")  # tested at each change; all others are slow tests


def family_case(name: str, odd: bool = False, *more: Any) -> Any:
    """A case of a parametrized test, (name, odd, ...): slow unless it is one of QUICK; of odd sizes BERT's is quick."""
    marks = () if name in QUICK and (not odd or name == "bert") else pytest.mark.slow
    return pytest.param(name, odd, *more, marks=marks, id=f"{name}{'-odd' * odd}")


def make_family(name: str, folder: Path, odd: bool = False, seed: int = 0) -> Path:
    """A base model of family `name` (one of FAMILIES) in `folder`: config.json, model.safetensors (FP32, no head),
    tokenizer.

    About 40,000 parameters. odd: a width of 36 and an inner width of 50, so that no matrix fills its blocks of 64
    evenly."""
    family = _KNOWN[name]
    folder = Path(folder)
    tokenizer = make_tokenizer(family)
    width, inner = (36, 50) if odd else (32, 64)
    ids = {
        f"{role}_id": tokenizer.convert_tokens_to_ids(token)
        for role, token in family.special.items()
        if role in ("pad_token", "bos_token", "eos_token", "cls_token", "sep_token")
    }
    config = AutoConfig.for_model(
        family.model_type,
        vocab_size=len(tokenizer),
        **family.sizes(width, inner, 2, 2),
        **{"pad_token_id": None, "bos_token_id": None, **ids},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """A tokenizer trained on a few lines of reviews; any text can be encoded."""
    special = list(family.special.values())
    if family.tokenizer == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token=family.special["unk_token"]))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    used = [token for token in special if token in family.around]
    if used:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=family.around,
            pair=f"{family.around} {re.sub('A', 'B', family.around)}",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in used],
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **family.special)
