"""What a checkpoint says of itself, and loading it without running code of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pyro_llm.errors import ModelFolderError, RewardFormatError
from pyro_llm.lm.pretrained import LOADING_FAILURES, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class Checkpoint:
    """A model of the Hugging Face hub, or in a folder.

    Args:
        name: what the user called it.
        source: the folder or the id.
        dtype: of the parameters; "auto" for that of the checkpoint.
        local: whether it is a folder.
        device: where models are put, or None for the CPU.
        placed: what transformers is told of devices and quantisation; see `pyro_llm.lm.pretrained.placement`.

    Raises:
        ModelFolderError: there is no readable configuration.
    """

    def __init__(
        self,
        name: str,
        source: str,
        dtype: torch.dtype | str = "auto",
        local: bool = True,
        device: str | torch.device | None = None,
        placed: Mapping[str, Any] | None = None,
    ) -> None:
        from transformers import PreTrainedConfig

        self.name, self.source, self.dtype, self.local, self.device = name, source, dtype, local, device
        self.placed = dict(placed or {})
        try:
            self.config: dict[str, Any] = PreTrainedConfig.get_config_dict(source, local_files_only=local)[0]
        except LOADING_FAILURES as error:
            raise ModelFolderError(f"the config.json of {source!r} cannot be read: {error}") from error

    @property
    def architectures(self) -> tuple[str, ...]:
        """The model classes that the configuration names."""
        return tuple(self.config.get("architectures") or ())

    def is_a(self, ending: str) -> bool:
        """Whether a model class of the configuration has a name with this ending."""
        return any(name.endswith(ending) for name in self.architectures)

    def is_called(self, *words: str) -> bool:
        """Whether the name by which it was published has all these words, whatever their case."""
        own = Path(self.source).name if self.local else self.source
        names = f"{own} {self.config.get('_name_or_path', '')}".lower()
        return all(word in names for word in words)

    def described(self) -> str:
        """Its architecture and labels, for messages."""
        labels = len(self.config.get("id2label") or ()) or self.config.get("num_labels")
        parts = [f"architectures {list(self.architectures)}", f"model_type {self.config.get('model_type')!r}"]
        return ", ".join(parts + ([f"{labels} labels"] if labels is not None else []))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        from transformers import AutoTokenizer

        try:
            with quiet_transformers():
                return AutoTokenizer.from_pretrained(self.source, local_files_only=self.local, trust_remote_code=False)
        except LOADING_FAILURES as error:
            raise ModelFolderError(f"no tokenizer could be loaded from {self.source!r}: {error}") from error

    @property
    def weight_names(self) -> frozenset[str]:
        """Names of its weights; empty if they cannot be told without loading them."""
        return frozenset(self._files)

    def rows_of(self, weight: str) -> int | None:
        """The first dimension of a weight, the outputs of a linear layer; None if there is no such weight."""
        path = self._find(self._files[weight]) if weight in self._files else None
        return None if path is None else int(_shapes(path)[weight][0])

    @cached_property
    def _files(self) -> dict[str, str]:
        """The file of each weight."""
        for index in _INDICES:
            if (path := self._find(index)) is not None:
                return dict(json.loads(Path(path).read_text("utf-8"))["weight_map"])
        for file in ("model.safetensors", "pytorch_model.bin"):
            if (path := self._find(file)) is not None:
                return dict.fromkeys(_shapes(path), file)
        return {}

    def _find(self, file: str) -> str | None:
        from transformers.utils import cached_file

        return cached_file(self.source, file, local_files_only=self.local, _raise_exceptions_for_missing_entries=False)

    @cached_property
    def model_config(self) -> PreTrainedConfig:
        """The configuration as an object of a class of transformers.

        Raises:
            RewardFormatError: transformers knows no such model.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.source, local_files_only=self.local, trust_remote_code=False)
        except LOADING_FAILURES as error:
            raise RewardFormatError(
                f"{self.name!r} is {self.described()}, whose code transformers does not have. Code that comes with a "
                f"checkpoint is not run here. ({str(error).splitlines()[0]})"
            ) from error

    def load(self, model_class: Any, **options: Any) -> Any:
        """The model as an instance of a class of transformers or of ours, all weights of which must be there.

        Raises:
            ModelFolderError: it cannot be loaded, or some weights are missing; the message names them.
        """
        try:
            with quiet_transformers():
                model, report = model_class.from_pretrained(
                    self.source,
                    dtype=self.dtype,
                    local_files_only=self.local,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are told of below, with their shapes
                    **self.placed,
                    **options,
                )
        except LOADING_FAILURES as error:
            kind = _described(model_class)
            raise ModelFolderError(f"no {kind} could be loaded from {self.source!r}: {error}") from error
        if report["mismatched_keys"]:
            shapes = ", ".join(
                f"{key} is {tuple(there)} in the checkpoint and {tuple(here)} by the configuration"
                for key, there, here in sorted(report["mismatched_keys"])
            )
            raise ModelFolderError(f"{self.name!r} is no {_described(model_class)} as its config.json has it: {shapes}")
        if report["missing_keys"]:
            raise ModelFolderError(
                f"{self.name!r} is no {_described(model_class)}: its checkpoint has no weights for "
                f"{', '.join(sorted(report['missing_keys']))} (a language model is loaded with load_lm)"
            )
        return model if self.device is None else model.to(torch.device(self.device))

    def token_classifier(self) -> Any:
        """The model as a token classifier."""
        from transformers import AutoModelForTokenClassification

        return self.load(AutoModelForTokenClassification)

    def causal_lm(self) -> Any:
        """The model as a causal language model."""
        from transformers import AutoModelForCausalLM

        return self.load(AutoModelForCausalLM)


def _shapes(path: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a file, without reading them."""
    from safetensors import safe_open

    if not path.endswith(".safetensors"):
        weights = torch.load(path, map_location="meta", weights_only=True)
        return {name: tuple(weight.shape) for name, weight in weights.items()}
    with safe_open(path, framework="pt") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def _described(model_class: Any) -> str:
    kinds = {"AutoModelForTokenClassification": "token classifier", "AutoModelForCausalLM": "causal language model"}
    return kinds.get(model_class.__name__, model_class.__name__)


def single_token(tokenizer: PreTrainedTokenizerBase, text: str, name: str, purpose: str) -> int:
    """The id of a text that a tokenizer has as one token.

    Raises:
        RewardFormatError: it has not.
    """
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise RewardFormatError(
            f"The tokenizer of {name!r} has no single token {text!r} ({purpose}), and reads it as {ids}. This is not "
            "the tokenizer that such a model was trained with: take that of its own repository, or another format=."
        )
    return int(ids[0])
