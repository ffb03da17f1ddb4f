"""GPT-2 models as Hugging Face keeps them, read and written: a folder with config.json and model.safetensors.

What is read computes the same here as there, and what is written computes the same there as here; a setting that
cannot be kept is refused by its name. Weights are float32 here, whatever they were in the file.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from primer.assets import log, whole_folder
from primer.errors import DataError, SurroundingsError, UsageError
from primer.exchange.files import read_json
from primer.exchange.gpt2 import (
    MASK,
    is_transposed,
    names,
    refuse_what_it_cannot_hold,
    to_config,
    to_settings,
)
from primer.exchange.tensors import WHOLE, Stored, opened
from primer.exchange.tokenizer_files import write_tokenizer
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.tokens.tokenizer import Tokenizer

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What float32 holds without loss."""
PREFIX = "transformer."
OTHER = "the config.json and the weights of one and the same model"


def read_config(folder: Path) -> GPTConfig:
    """Our options for the model in a folder. DataError where it is no GPT-2, or one that this GPT cannot compute."""
    file = folder / "config.json"
    if not file.is_file():
        raise DataError("no config.json is here", str(folder), "a folder that save_pretrained wrote")
    return to_config(read_json(file), str(file))


def read_gpt2(folder: Path) -> tuple[GPTConfig, dict[str, Tensor]]:
    """The model in a folder: our options, and weights by the names of `models.gpt.GPT`, in float32.

    One tensor of the file is in memory at a time. Raises DataError as `read_config` does, and for weights that are
    missing, left over, misshapen or not finite.
    """
    config = read_config(folder)
    with opened(folder) as tensors:
        stored = _without_prefix(tensors, folder)
        _settle_the_head(stored, config, folder)
        _check_names(stored, config, folder)
        wanted = shapes(config)
        weights: dict[str, Tensor] = {}
        for theirs, ours in names(config.n_layers, tied=config.tied_head):
            weights[ours] = _read(theirs, stored[theirs], wanted[ours])
        if narrow := {DTYPES[each.dtype] for each in stored.values()} - {"float32"}:
            log.warning("the weights are %s in the file; they are float32 from here on", "/".join(narrow))
    return config, weights


def shapes(config: GPTConfig) -> dict[str, torch.Size]:
    """Of every weight of a model, by name. Nothing is allocated."""
    with torch.device("meta"):
        return {name: p.shape for name, p in GPT(config).named_parameters()}


def _without_prefix(tensors: Mapping[str, Stored], folder: Path) -> dict[str, Stored]:
    """The weights under their shortest names; the masks of old files are left out."""
    stored: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix(PREFIX)
        if plain in stored:
            raise DataError(f"{plain} is there twice, with and without {PREFIX!r}", str(folder), OTHER)
        if not MASK.fullmatch(plain):
            stored[plain] = tensor
    return stored


def _settle_the_head(stored: dict[str, Stored], config: GPTConfig, folder: Path) -> None:
    """Of a tied head, which is the embedding under another name, leave one; DataError where they are two."""
    if not config.tied_head or "lm_head.weight" not in stored:
        return
    head = stored.pop("lm_head.weight")
    embedding = stored.setdefault("wte.weight", head)
    same = embedding is head or (
        (embedding.dtype, embedding.shape) == (head.dtype, head.shape)
        and torch.equal(embedding.read(), head.read())
    )
    if not same:
        raise DataError(
            "lm_head.weight is not wte.weight, although config.json says that they are one",
            where=str(folder),
            hint='"tie_word_embeddings": false in config.json, if the head was trained on its own',
        )


def _check_names(stored: Mapping[str, Stored], config: GPTConfig, folder: Path) -> None:
    """DataError that names what is missing or left over."""
    wanted = (theirs for theirs, _ in names(config.n_layers, tied=config.tied_head))
    missing = list(islice((name for name in wanted if name not in stored), 4))
    if missing:
        raise DataError(f"the weights lack {_listed(missing)}", str(folder), OTHER)
    known = {theirs for theirs, _ in names(config.n_layers, tied=config.tied_head)}
    if extra := [name for name in stored if name not in known]:
        raise DataError(f"the weights have {_listed(extra)}, which has no place here", str(folder), OTHER)


def _listed(found: list[str]) -> str:
    return ", ".join(found[:3]) + (" and more" if len(found) > 3 else "")


def _read(theirs: str, stored: Stored, shape: torch.Size) -> Tensor:
    where = str(stored.file)
    wanted = tuple(reversed(shape)) if is_transposed(theirs) else tuple(shape)
    if stored.dtype not in DTYPES:
        known = ", ".join(DTYPES.values())
        raise DataError(f"{theirs} holds {stored.dtype}; read are {known}", where, "weights in float32")
    if stored.shape != wanted:
        raise DataError(
            f"{theirs} has the shape {stored.shape}, and config.json asks for {wanted}", where, OTHER
        )
    found = stored.read()
    weight = torch.empty(shape).copy_(found.T if is_transposed(theirs) else found)
    if not torch.isfinite(weight).all():
        raise DataError(f"{theirs} contains a number that is not finite", where, "another copy of the file")
    return weight


def write_gpt2(folder: Path, config: GPTConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer) -> None:
    """Write a model for transformers to read, whole or not at all; what was written is read back and compared.

    weights: those of `models.gpt.GPT` with `config`. Rows of the embedding that are no token's (a vocabulary that was
    rounded up) are left out; biases and gains that the model lacks become zeros and ones. Raises UsageError that lists
    the options which GPT-2's format cannot hold, or where `folder` exists already.
    """
    refuse_what_it_cannot_hold(config)
    if config.vocab_size < tokenizer.vocab_size:
        raise UsageError(
            f"a model of {config.vocab_size} tokens with a tokenizer of {tokenizer.vocab_size}",
            hint="the tokenizer that the model was trained with",
        )
    settings = to_settings(config, tokenizer)
    ends = {name: settings[name] for name in ("bos_token_id", "eos_token_id")}
    with whole_folder(folder) as unfinished:
        _write_json(unfinished / "config.json", settings)
        _write_json(unfinished / "generation_config.json", ends)
        write_tokenizer(tokenizer, unfinished, config.context_length)
        ours = _completed(config, weights, tokenizer.vocab_size)
        _write_tensors(unfinished / WHOLE, _theirs(config, ours))
        rights = (unfinished / "config.json").stat().st_mode
        (unfinished / WHOLE).chmod(rights)  # which the library gives to its owner alone
        if not _reads_back(unfinished, ours):
            raise SurroundingsError("what was written reads back otherwise", str(folder), "another disk")


def _completed(config: GPTConfig, weights: Mapping[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """The weights that a GPT-2 has: without rows that are no token's, with biases and gains that change nothing."""
    if {name: weight.shape for name, weight in weights.items()} != shapes(config):
        raise UsageError("these are not the weights of a model with these options", hint="GPT(config)")
    whole = replace(config, vocab_size=vocab_size, bias=True, qkv_bias=True, norm_gain=True)
    complete: dict[str, Tensor] = {}
    for name, shape in shapes(whole).items():
        if name in weights:
            complete[name] = weights[name].detach()[: shape[0]].to("cpu", torch.float32)
        else:
            complete[name] = torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    return complete


def _theirs(config: GPTConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under their names; the head alone stands outside of what they call the transformer."""
    found = {}
    for theirs, name in names(config.n_layers, tied=config.tied_head):
        weight = ours[name].T if is_transposed(theirs) else ours[name]
        found[theirs if theirs == "lm_head.weight" else PREFIX + theirs] = weight.contiguous()
    return found


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    try:
        safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:  # what the disk refuses
        raise SurroundingsError(
            f"the weights cannot be written ({error})",
            str(file.parent.parent),
            "another folder, or free space",
        ) from error


def _reads_back(folder: Path, ours: Mapping[str, Tensor]) -> bool:
    _, weights = read_gpt2(folder)
    return weights.keys() == ours.keys() and all(torch.equal(weights[name], ours[name]) for name in ours)


def _write_json(file: Path, values: Mapping[str, object]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
