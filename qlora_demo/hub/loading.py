"""The code by which anybody loads an adapter, with the libraries alone: base, precision and head as the app has them.

Source text only; a test runs it. Knows neither torch nor the Hub's interface.
"""

from __future__ import annotations

from typing import Any

from .markdown import literal
from .metadata import hub_base

# As engine.layers has it: what is no part of the base, or sums it up, stays dense.
HEADS = r"(.*\.)?(score|classifier|classification_head|pre_classifier|pooler|head)"


def write_snippet(
    report: dict[str, Any], base_name: str, *, repo: str = "", revision: str = "", max_length: int = 0
) -> str:
    """Python source that loads the adapter `repo` (or this folder) on its base and classifies a review.

    max_length: tokens, 0 = as the run was told. Raises nothing: what the report does not say is left to the libraries.
    """
    precision = report["config"]["precision"]
    labels = [str(label) for label in report["data"].get("labels") or report["final"]["test"].get("labels") or []]
    compute = report["environment"].get("compute_dtype", "bfloat16")
    half = "bfloat16" if compute == "bfloat16" else "float16"  # as engine.modeling.load_base
    dense = "float32" if precision == "fp32" else half
    four_bit = str(precision).startswith("nf4")
    pinned = f"revision={literal(revision)}, " if revision and hub_base(base_name) else ""
    base = (
        literal(hub_base(base_name))
        if hub_base(base_name)
        else '"PATH/OF/THE/BASE"  # a local model, which is not published'
    )
    adapter = literal(repo) if repo else '"."  # the folder that holds this card, or its name on the Hub'
    # On a CPU a 4-bit or FP32 base needs no autocast: what is dense there is float32 already.
    mixed = "True" if precision == "fp16" else 'device == "cuda"'
    return "\n".join(
        line
        for line in (
            "import torch",
            *(["from bitsandbytes.nn import Linear4bit"] if four_bit else []),
            (
                "from peft import"
                f" {'PeftConfig, ' if four_bit else ''}PeftModel{', prepare_model_for_kbit_training' if four_bit else ''}"  # noqa: E501
            ),
            (
                "from transformers import AutoModelForSequenceClassification,"
                f" AutoTokenizer{', BitsAndBytesConfig' if four_bit else ''}"
            ),
            "",
            f"ADAPTER = {adapter}",
            f"BASE = {base}",
            f"LABELS = {literal(labels)}",
            'device = "cuda" if torch.cuda.is_available() else "cpu"',
            "",
            (
                "tokenizer = AutoTokenizer.from_pretrained(ADAPTER)  # with the pad token of the training, padding on"
                " the right"
            ),
            *(_four_bits(compute, precision) if four_bit else []),
            "base = AutoModelForSequenceClassification.from_pretrained(",
            (
                f"    BASE, {pinned}id2label=dict(enumerate(LABELS)), label2id={{label: i for i, label in"
                " enumerate(LABELS)},"
            ),
            (
                f'    pad_token_id=tokenizer.pad_token_id, dtype=torch.{dense}, device_map={{"": device}},'
                " ignore_mismatched_sizes=True,"
            ),
            *(["    quantization_config=four_bits,"] if four_bit else []),
            ")",
            *(_as_trained() if four_bit else []),
            (
                "model = PeftModel.from_pretrained(base, ADAPTER).eval()  # LoRA, and the trained head in place of a"
                " random one"
            ),
            "",
            'texts = ["I love this product"]',
            (
                f"batch = tokenizer(texts, truncation=True, max_length={max_length or report['config']['max_length']}, "
                'padding=True, return_tensors="pt").to(device)'
            ),
            f"with torch.inference_mode(), torch.autocast(device, torch.{half}, enabled={mixed}):",
            '    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()',
            "for text, shares in zip(texts, logits.softmax(dim=-1).tolist()):",
            "    print(text, dict(zip(LABELS, shares)))",
        )
    )


def _four_bits(compute: str, precision: str) -> list[str]:
    return [
        (
            "kept = PeftConfig.from_pretrained(ADAPTER).modules_to_save  # trained whole, so never quantized; nor are"
            " heads and poolers"
        ),
        "four_bits = BitsAndBytesConfig(",
        f'    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant={precision == "nf4-dq"},',
        f"    bnb_4bit_compute_dtype=torch.{compute},",
        f'    llm_int8_skip_modules=[*kept, r"{HEADS}"],',
        ")",
    ]


def _as_trained() -> list[str]:
    return [
        "for module in base.modules():",
        "    if isinstance(module, Linear4bit):",
        (
            "        module.support_avx512bf16_for_cpu = False  # some processors would compute with repacked weights,"
            " a little otherwise"
        ),
        "base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)  # what stays dense is float32",
    ]
