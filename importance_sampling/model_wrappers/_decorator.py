"""A wrapper around a wrapper, which replaces some of its methods."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from ._base import ModelWrapper

# For each method that a decorator may implement, the methods of `ModelWrapper` that call it. The
# loop calls these, and what they call must be the decorator's.
_CALLED_BY = {
    "train_batch": ("train", "train_many", "trains_many"),
    "train": ("train_many", "trains_many"),
    "score": ("score_later",),
    "score_batch": ("score", "score_later"),
    "evaluate_batch": ("evaluates_itself", "evaluate_batches"),
}


class ModelWrapperDecorator(ModelWrapper):
    """Passes every attribute on to another wrapper, but for the named ones.

    Args:
        model_wrapper: the wrapper to decorate.
        implemented_attributes: names that the decorator itself provides.
    """

    def __init__(
        self,
        model_wrapper: ModelWrapper,
        implemented_attributes: AbstractSet[str] = frozenset(),
    ):
        self.model_wrapper = model_wrapper
        self.implemented_attributes = set(implemented_attributes) | {"model_wrapper"}

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if name.startswith("__") or name == "implemented_attributes":
            return own(self, name)
        if name in vars(self).get("implemented_attributes", {name}):
            return own(self, name)
        for method, callers in _CALLED_BY.items():
            if name in callers and method in own(self, "implemented_attributes"):
                return own(self, name)
        return getattr(own(self, "model_wrapper"), name)
