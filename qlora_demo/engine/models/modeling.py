"""A frozen base at a precision, LoRA on top, and adapters that come back as they were saved.

`forward` runs in one autocast context wherever it is called from, so training, evaluation and a reload compute alike.
Knows nothing of runs, events or metrics.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from peft import LoraConfig, PeftModel, prepare_model_for_kbit_training, set_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...core.errors import AdapterError, ModelError
from ...core.format import shorten
from .blueprint import read_blueprint
from .build import add_lora, load_lora
from .device import Device
from .layers import LayerPlan, Storage, load_model, lora_targets
from .sources import ModelSource, resolve

NOTE_FILE = "qlora_demo.json"
HEAD_FILE = "untrained_head.safetensors"
FORMAT = 1
M = TypeVar("M", PeftModel, PreTrainedModel)


@dataclass(frozen=True)
class AdapterNote:
    """What PEFT's files do not say, kept beside them in qlora_demo.json.

    model: what the user typed; base_name and revision: what it was. max_length in tokens.
    """

    model: str
    base_name: str
    revision: str
    labels: list[str]
    ordinal: bool
    precision: str
    compute_dtype: str
    max_length: int
    pad_token_id: int
    format: int = FORMAT


@dataclass
class Base:
    """A loaded base with its tokenizer and the plan of its layers."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    plan: LayerPlan
    source: ModelSource
    precision: str
    device: Device


@dataclass
class LoadedAdapter:
    """An adapter on its base, ready to classify."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    note: AdapterNote
    folder: Path


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the right, with a pad token (the end-of-sequence token where there is none of its own).

    GPT-2's positions are absolute, so left padding without position ids would move the logits. Raises ModelError.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ModelError(
            f"{source.name} has no tokenizer that loads ({str(error).splitlines()[0][:120]}); choose a model with"
            " tokenizer files."
        ) from error
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token_id is None:
        token = tokenizer.eos_token or tokenizer.unk_token
        if token is None:
            raise ModelError(
                f"The tokenizer of {source.name} has neither a pad nor an end-of-sequence token; choose another model."
            )
        tokenizer.pad_token = token
    return tokenizer


def usable_length(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, wanted: int) -> int:
    """`wanted` tokens, cut to what the model's positions and tokenizer allow."""
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or wanted
    # RoBERTa and its kin count positions from pad + 1, so two of them are never reached.
    offset = int(config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(min(wanted, positions - offset, tokenizer.model_max_length))


def load_base(source: ModelSource, labels: Sequence[str], precision: str, device: Device) -> Base:
    """The base with a head for `labels`, pad token set on both sides, prepared for training on top of frozen weights.

    NF4: everything not quantized is cast to float32 (`prepare_model_for_kbit_training`), matrices are multiplied in the
    device's compute dtype."""
    blueprint, tokenizer = read_blueprint(source, len(labels)), load_tokenizer(source)
    config = copy.deepcopy(blueprint.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.pad_token_id = tokenizer.pad_token_id
    compute = getattr(torch, device.compute_dtype)
    model = load_model(
        source,
        cast(Storage, precision),
        blueprint.plan,
        config,
        dtype=torch.float32 if precision == "fp32" else half_dtype(compute),
        compute_dtype=compute,
        device=device.kind,
    )
    model.config.use_cache = False
    if precision.startswith("nf4"):
        # float32 for what stays dense: norms and the residual stream keep their precision.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    else:
        model.requires_grad_(False)
    return Base(model, tokenizer, blueprint.plan, source, precision, device)


def half_dtype(compute: torch.dtype) -> torch.dtype:
    """The 16-bit dtype in which dense layers are held where matrices are multiplied in `compute`."""
    return torch.bfloat16 if compute == torch.bfloat16 else torch.float16


def attach_lora(base: Base, *, rank: int, alpha: float, dropout: float, targets: str) -> PeftModel:
    """LoRA on the base: `targets` adapted, whatever the checkpoint lacked trained and saved whole, all of it in
    float32.
    """
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT divides it by r: a float is as good
        lora_dropout=dropout,
        bias="none",  # type: ignore[arg-type]
        target_modules=lora_targets(base.plan, targets),
        modules_to_save=list(base.plan.save_modules),
    )
    model = add_lora(base.model, config)
    # PEFT looks up the base's configuration at each checkpoint: in the folder at hand, not on the Hub.
    model.peft_config["default"].base_model_name_or_path = str(base.source.folder)
    return _ready(model, base)


def start_from(model: PeftModel, base: Base, folder: Path, labels: Sequence[str]) -> None:
    """Puts the weights of the adapter in `folder` into a fresh one, to be trained on; below it stays the head of before
    its own step 1.

    Raises AdapterError with all that does not fit.
    """
    note, config = read_note(folder), cast(LoraConfig, model.peft_config["default"])
    stated = json.loads((folder / "adapter_config.json").read_text())
    pairs = (
        ("base model", base.source.base_name, note.base_name),
        ("labels", ", ".join(labels), ", ".join(note.labels)),
        ("rank", str(config.r), str(stated["r"])),
        ("target modules", ", ".join(sorted(config.target_modules or ())), ", ".join(sorted(stated["target_modules"]))),
    )
    wrong = [f"{what} {shorten(asked, 80)} (it has {shorten(had, 80)})" for what, asked, had in pairs if asked != had]
    if wrong:
        raise AdapterError(
            f"The adapter to start from does not fit this run: {', '.join(wrong)}; take its own settings."
        )
    incompatible: Any = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    if incompatible.unexpected_keys:
        raise AdapterError(
            f"The adapter to start from holds weights that this model has not ({incompatible.unexpected_keys[0]})."
        )
    _restore_head(model, folder)


def _ready(model: M, base: Base) -> M:
    """Trainable parts in float32, and one autocast context around every forward pass where dtypes are mixed."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    mixed = base.device.kind == "cuda" or base.precision == "fp16"
    if mixed:
        dtype = next(
            (p.dtype for p in base.model.parameters() if p.dtype in (torch.float16, torch.bfloat16)),
            getattr(torch, base.device.compute_dtype),
        )
        inner = model.forward

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(base.device.kind, dtype=dtype):
                return inner(*args, **kwargs)

        model.forward = forward  # type: ignore[method-assign]
    return model


def head_wrappers(model: PeftModel) -> Iterator[tuple[str, ModulesToSaveWrapper]]:
    """The modules trained whole, by their names in the base."""
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield name.removeprefix("base_model.model."), module


@contextmanager
def as_base(model: PeftModel, active: bool) -> Iterator[None]:
    """With `active`, the network with LoRA off and the head as it stood before step 1."""
    if not active:
        yield
        return
    with model.disable_adapter():
        yield


@torch.inference_mode()
def forward(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    batch_size: int = 32,
) -> torch.Tensor:
    """Logits (n, k) in float32 on the CPU, in the order of `texts`; batched by length, padded to each batch's
    longest.
    """
    model.eval()
    ids = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    logits: dict[int, torch.Tensor] = {}
    device = next(model.parameters()).device
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt").to(device)
        batch_logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float().cpu()
        logits.update(zip(rows, batch_logits, strict=True))
    return torch.stack([logits[i] for i in range(len(ids))])


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, note: AdapterNote, folder: Path) -> None:
    """Writes the adapter (safetensors), the head before step 1, the tokenizer and the note into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = model.peft_config["default"]
    at_hand, settings.base_model_name_or_path, settings.revision = (
        settings.base_model_name_or_path,
        note.base_name,
        note.revision or None,
    )
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    settings.base_model_name_or_path, settings.revision = at_hand, None
    tokenizer.save_pretrained(folder)
    head = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, wrapper in head_wrappers(model)
        for key, value in wrapper.original_module.state_dict().items()
    }
    save_file(head, folder / HEAD_FILE, metadata={"format": "pt"})
    (folder / NOTE_FILE).write_text(json.dumps(asdict(note), indent=2) + "\n")
    (folder / "README.md").unlink(
        missing_ok=True
    )  # PEFT's template says nothing about this run; the run writes its own card


def read_note(folder: Path) -> AdapterNote:
    """The note of an adapter folder. Raises AdapterError."""
    if not folder.is_dir():
        raise AdapterError(f"There is no adapter folder {folder}; check the path.")
    for needed in ("adapter_config.json", "adapter_model.safetensors", HEAD_FILE, NOTE_FILE):
        if not (folder / needed).is_file():
            raise AdapterError(f"The folder {folder} has no {needed}; choose an adapter that this app has saved.")
    try:
        note = AdapterNote(**json.loads((folder / NOTE_FILE).read_text()))
    except (ValueError, TypeError) as error:
        raise AdapterError(
            f"{folder / NOTE_FILE} is damaged ({str(error)[:80]}); train or fetch the adapter again."
        ) from error
    if note.format != FORMAT:
        raise AdapterError(
            f"The adapter in {folder} has format {note.format}, this app reads {FORMAT}; update the app."
        )
    return note


def load_adapter(folder: Path, device: Device, precision: str = "") -> LoadedAdapter:
    """The adapter in `folder` on its own base, at the precision it was trained on unless told otherwise.

    Raises AdapterError, ModelError, HubError.
    """
    note = read_note(folder)
    base = _load_own_base(note, device, precision)
    try:
        model = load_lora(base.model, folder)
        _restore_head(model, folder)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise AdapterError(
            f"The adapter in {folder} does not fit its base {note.base_name}: {str(error).splitlines()[0][:160]}."
        ) from error
    return LoadedAdapter(_ready(model, base), base.tokenizer, note, folder)


def load_untrained(folder: Path, device: Device, precision: str = "") -> Base:
    """The base of the adapter in `folder` with the head of before step 1, and nothing of the adapter. Raises as
    `load_adapter`.
    """
    base = _load_own_base(read_note(folder), device, precision)
    unknown = base.model.load_state_dict(load_file(folder / HEAD_FILE), strict=False).unexpected_keys
    if unknown:
        raise AdapterError(f"The untrained head in {folder} holds weights that its base has not ({unknown[0]}).")
    base.model = _ready(base.model, base)
    return base


def _load_own_base(note: AdapterNote, device: Device, precision: str) -> Base:
    # The name typed may lead elsewhere by now (a folder moved, a default branch gone on): the recorded base and
    # revision decide.
    source = resolve("sample") if note.model == "sample" else resolve(note.base_name, note.revision)
    if device.kind == "cpu":
        device = replace(device, compute_dtype=note.compute_dtype)  # type: ignore[arg-type]
    return load_base(source, note.labels, precision or note.precision, device)


def _restore_head(model: PeftModel, folder: Path) -> None:
    """Puts the head of before step 1 under the trained one, where a fresh process has random numbers."""
    saved = load_file(folder / HEAD_FILE)
    for name, wrapper in head_wrappers(model):
        own = {key.removeprefix(name + "."): value for key, value in saved.items() if key.startswith(name + ".")}
        wrapper.original_module.load_state_dict(own)


def trainable_parameters(model: PeftModel) -> tuple[int, int]:
    """(trainable, all) parameter counts, as PEFT counts them."""
    return model.get_nb_trainable_parameters()
