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
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedTokenizerFast

POSITIONS = 160  # tokens a model can take
TEXT = """I love this product and use it every day. Works exactly as described and arrived early. Great value for the money.
The best purchase I have made this year, my whole family is happy with it. Excellent quality, five stars!
It is okay, nothing special. Average, does what it should, but the instructions are hard to read. Three stars.
Terrible. It broke after two days and the seller never answered. Do not buy this! A complete waste of money, one star.
The color is not as shown and the size was too small, so I returned it. Poor packaging, the box was damaged.
Good enough for the price; the battery could last longer. Not bad, not great. It stopped working after a week."""  # noqa: E501


@dataclass(frozen=True)
class Family:
    """How one family is built. `names`: of its configuration's width, inner width, layers, heads and positions."""

    model_type: str
    names: str
    tokenizer: str  # "bytes" (BPE) or "words" (WordPiece)
    tokens: str  # role=token, in the order of their ids
    around: str = "$A"  # what the tokenizer puts around a text
    more: Callable[[int], dict[str, Any]] = lambda width: {}  # further fields, by the width

    @property
    def special(self) -> dict[str, str]:
        return {f"{role}_token": token for role, token in (pair.split("=") for pair in self.tokens.split())}

    def sizes(self, width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
        sizes = dict(zip(self.names.split(), (width, inner, layers, heads, POSITIONS), strict=False))
        return {**sizes, **self.more(width)}


def _decoder(width: int) -> dict[str, Any]:
    return {"num_key_value_heads": 1, "head_dim": 10, "tie_word_embeddings": False}


def _roberta(width: int) -> dict[str, Any]:
    return {"type_vocab_size": 1, "max_position_embeddings": POSITIONS + 2}


def _deberta(width: int) -> dict[str, Any]:
    attention = {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]}
    shared = {"share_att_key": True, "position_biased_input": False, "type_vocab_size": 0}
    return {**attention, **shared, "norm_rel_ebd": "layer_norm", "pooler_hidden_size": width}


BERT = "hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings"
BERT_TOKENS = "pad=[PAD] unk=[UNK] cls=[CLS] sep=[SEP] mask=[MASK]"
AROUND = "[CLS] $A [SEP]"
DISTILBERT = "dim hidden_dim n_layers n_heads max_position_embeddings"
ROBERTA_TOKENS = "bos=<s> pad=<pad> eos=</s> unk=<unk> mask=<mask>"
QWEN_TOKENS = "pad=<|endoftext|> eos=<|im_end|>"
OPT = "hidden_size ffn_dim num_hidden_layers num_attention_heads max_position_embeddings"
_ALL = (  # gpt2 and llama have no pad token, as the real ones
    Family("gpt2", "n_embd n_inner n_layer n_head n_positions", "bytes", "eos=<|endoftext|>"),
    Family("bert", BERT, "words", BERT_TOKENS, AROUND),
    Family("distilbert", DISTILBERT, "words", BERT_TOKENS, AROUND),
    Family("roberta", BERT, "bytes", ROBERTA_TOKENS, "<s> $A </s>", _roberta),
    Family("llama", BERT, "bytes", "bos=<|begin|> eos=<|end|>", "<|begin|> $A", _decoder),
    Family("qwen2", BERT, "bytes", QWEN_TOKENS, more=_decoder),
    Family("qwen3", BERT, "bytes", QWEN_TOKENS, more=_decoder),
    Family("modernbert", BERT, "bytes", BERT_TOKENS, AROUND, lambda width: {"local_attention": 32}),
    Family("deberta-v2", BERT, "words", BERT_TOKENS, AROUND, _deberta),
    Family("opt", OPT, "bytes", ROBERTA_TOKENS, "</s> $A", lambda width: {"word_embed_proj_dim": width}),
    Family("gemma", BERT, "bytes", "pad=<pad> eos=<eos> bos=<bos>", "<bos> $A", _decoder),
    Family("mistral", BERT, "bytes", "unk=<unk> bos=<s> eos=</s>", "<s> $A", _decoder),
    Family(
        "t5",
        "d_model d_ff num_layers num_heads",
        "words",
        "pad=<pad> eos=</s> unk=<unk>",
        "$A </s>",
        lambda width: {"d_kv": width // 2, "decoder_start_token_id": 0},
    ),
)
_KNOWN = {family.model_type: family for family in _ALL}
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


def tiny_llama(**changes: Any) -> PretrainedConfig:
    """A LLaMA of two layers of 64, as a shape alone."""
    sizes = {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0}
    return AutoConfig.for_model("llama", **{**sizes, **heads, **changes})
