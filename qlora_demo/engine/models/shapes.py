"""Shapes of well-known models, carried with the app: how large a model is can be asked without any network.

Configurations only, no weights; each is what the model's authors published. Knows neither torch nor the Hub.
"""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]  # fields of a configuration, as in config.json
# Old short names that the Hub still forwards.
ALIASES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "roberta-base": "FacebookAI/roberta-base",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
}


def _gpt2(width: int, heads: int, layers: int) -> Shape:
    return {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": width,
        "n_head": heads,
        "n_layer": layers,
    }


def _qwen3(width: int, inner: int, layers: int, heads: int, tied: bool) -> Shape:
    return {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": tied,
    }


def _llama(width: int, inner: int, layers: int, heads: int) -> Shape:
    return {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    }


def _bert(width: int, inner: int, layers: int, heads: int) -> Shape:
    return {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }


SHAPES: dict[str, Shape] = {
    "openai-community/gpt2": _gpt2(768, 12, 12),
    "openai-community/gpt2-medium": _gpt2(1024, 16, 24),
    "openai-community/gpt2-large": _gpt2(1280, 20, 36),
    "openai-community/gpt2-xl": _gpt2(1600, 25, 48),
    "google-bert/bert-base-uncased": _bert(768, 3072, 12, 12),
    "google-bert/bert-large-uncased": _bert(1024, 4096, 24, 16),
    "FacebookAI/roberta-base": {
        **_bert(768, 3072, 12, 12),
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
    },
    "distilbert/distilbert-base-uncased": {
        "model_type": "distilbert",
        "vocab_size": 30522,
        "dim": 768,
        "hidden_dim": 3072,
        "n_layers": 6,
        "n_heads": 12,
        "max_position_embeddings": 512,
    },
    "answerdotai/ModernBERT-base": {
        "model_type": "modernbert",
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
    },
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, True),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32, True),
    "Qwen/Qwen3-8B": _qwen3(4096, 12288, 36, 32, False),
    "meta-llama/Llama-3.1-8B": _llama(4096, 14336, 32, 32),
    "meta-llama/Llama-3.1-70B": _llama(8192, 28672, 80, 64),
}


def canonical(model_id: str) -> str:
    """The full Hub id of a model that has an old short name; any other id unchanged."""
    return ALIASES.get(model_id, model_id)


def shape_of(model_id: str) -> Shape | None:
    """The configuration of a well-known model, ready for `AutoConfig.for_model`; None where the app carries none."""
    shape = SHAPES.get(canonical(model_id))
    return dict(shape) if shape is not None else None
