"""Arrays and data loaders of TensorFlow, JAX and PyTorch, on whatever backend Keras runs.

Nothing is imported here: what a user hands over can only be of a framework that is loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


def _module(name: str) -> Any:
    return sys.modules.get(name)


def is_tf_dataset(data: object) -> bool:
    """Whether `data` is a `tf.data.Dataset`."""
    tf = _module("tensorflow")
    return tf is not None and isinstance(data, tf.data.Dataset)


def is_torch_loader(data: object) -> bool:
    """Whether `data` is a `torch.utils.data.DataLoader`."""
    torch_data = _module("torch.utils.data")
    return torch_data is not None and isinstance(data, torch_data.DataLoader)


def is_torch_dataset(data: object) -> bool:
    """Whether `data` is a `torch.utils.data.Dataset` whose examples have an index and a number."""
    torch_data = _module("torch.utils.data")
    return (
        torch_data is not None
        and isinstance(data, torch_data.Dataset)
        and not isinstance(data, torch_data.IterableDataset)
        and hasattr(data, "__len__")
    )


def is_distributed(data: object) -> bool:
    """Whether `data` is split among replicas of `tf.distribute`: a data set, or values of one."""
    tf = _module("tensorflow")
    kinds = ("DistributedDataset", "DistributedIterator", "DistributedValues")
    return (
        tf is not None
        and isinstance(data, tuple(getattr(tf.distribute, kind) for kind in kinds))
        and not isinstance(data, tf.Variable)
    )


def tf_cardinality(dataset: tf.data.Dataset) -> int | None:
    """Elements of a `tf.data.Dataset`; -1 if it is infinite, None if nobody knows."""
    count = int(dataset.cardinality())
    return None if count == _module("tensorflow").data.UNKNOWN_CARDINALITY else count


def is_tensor(leaf: object) -> bool:
    """Whether `leaf` is a tensor of TensorFlow, JAX or PyTorch."""
    tf, jax, torch = _module("tensorflow"), _module("jax"), _module("torch")
    if tf is not None and isinstance(leaf, tf.Tensor):
        # What it nearly always is; the question below takes longer than reading a small batch.
        return True
    return (
        (tf is not None and (tf.is_tensor(leaf) or isinstance(leaf, tf.Variable)))
        or (jax is not None and isinstance(leaf, jax.Array))
        or (torch is not None and isinstance(leaf, torch.Tensor))
        or hasattr(leaf, "todense")
    )


def tensor_to_numpy(leaf: Any) -> np.ndarray:
    """A tensor of any of the frameworks as a dense numpy array.

    Raises:
        ValueError: for ragged tensors.
    """
    tf, torch = _module("tensorflow"), _module("torch")
    if tf is not None and isinstance(leaf, tf.Tensor):
        return np.asarray(leaf)
    if torch is not None and isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().cpu()
        if leaf.is_sparse:
            leaf = leaf.to_dense()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()
    if tf is not None and isinstance(leaf, tf.RaggedTensor):
        raise ValueError(
            f"Got a ragged tensor of shape {leaf.shape}. Importance sampling draws rows of one "
            "shape: pad it with `.to_tensor()`, and mask the padding in the model."
        )
    if tf is not None and isinstance(leaf, tf.SparseTensor):
        leaf = tf.sparse.to_dense(leaf)
    if tf is not None and isinstance(leaf, tf.distribute.DistributedValues):
        # A variable of several replicas: what all of them have counted.
        leaf = tf.convert_to_tensor(leaf)
    if hasattr(leaf, "todense"):
        leaf = leaf.todense()
    return np.asarray(leaf)
