"""Several replicas of `tf.distribute`: a batch split among them, and what they say joined.

The batch is drawn once, on the host. Inside the compiled function its rows are cut into one part
for each replica, in order, the function runs once on each of them by `strategy.run`, and the rows
of the results are put together in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from .base import Joining, Runtime, Tensor


def strategy_of(model: keras.Model) -> tf.distribute.Strategy | None:
    """The strategy of several replicas that a model was built under; None without one.

    Args:
        model: a `keras.Model`, or None where nothing is known of it.

    Raises:
        ValueError: if the strategy, or what the model asks for under it, cannot work.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return None
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "The model was built under tf.distribute.MultiWorkerMirroredStrategy, under which "
            "Keras 3 cannot train: its own `model.fit` and `model.evaluate` end in an error before "
            "the first step. Use tf.distribute.MirroredStrategy for the devices of one machine; "
            "several machines need another backend."
        )
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        raise ValueError(
            f"The model was built under a {type(strategy).__name__} with "
            f"{strategy.num_replicas_in_sync} replicas, which importance sampling does not "
            "support. Use tf.distribute.MirroredStrategy."
        )
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise ValueError(
            "The optimizer has gradient_accumulation_steps, with which Keras cannot train under a "
            "strategy of several replicas: its own `model.fit` ends in an error there. Take a "
            "larger batch in its place."
        )
    variables = list(model.variables)
    if model.optimizer is not None:
        variables.append(model.optimizer.iterations)
    if not all(isinstance(v.value, tf.distribute.DistributedValues) for v in variables):
        raise ValueError(
            f"The model {model.name!r} is to be trained by {strategy.num_replicas_in_sync} "
            "replicas, but it has variables that are not copied to each of them. Build and compile "
            "it inside `with strategy.scope():`."
        )
    if model.jit_compile:
        # Not "auto", which is no under a strategy.
        raise ValueError(
            "A model under several replicas cannot be compiled with jit_compile=True: XLA does not "
            "compile functions that span devices. Leave `jit_compile` as it is."
        )
    return strategy


class MirroredShare:
    """The rows of a batch that one replica works on; see `base.ReplicaShare`.

    Where a batch has fewer rows than there are replicas, each of them works on all of it: of no
    row there are no statistics.

    Args:
        i: int, which replica it is.
        count: int, how many there are.
        n: rows of the batch, a tensor.

    Attributes:
        n: rows of the batch, a tensor.
        rows: slice, which of them are this replica's.
    """

    def __init__(self, i: int, count: int, n: Tensor):
        self.n = n
        self._count = count
        self._whole = n < count
        begin = tf.where(self._whole, 0, n * i // count)
        end = tf.where(self._whole, n, n * (i + 1) // count)
        self.rows = slice(begin, end)

    def scale(self, summed: bool) -> Tensor:
        """See `base.ReplicaShare.scale`."""
        if summed:
            return tf.where(self._whole, 1.0 / self._count, 1.0)
        mine = tf.cast(self.rows.stop - self.rows.start, tf.float32)
        of_mean = self._count * mine / tf.cast(self.n, tf.float32)
        return tf.where(self._whole, 1.0, of_mean)

    def mean(self, rows: Tensor) -> Tensor:
        """See `base.ReplicaShare.mean`."""
        number = tf.cast(tf.shape(rows)[0], rows.dtype)
        total, number = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, [tf.reduce_sum(rows, axis=0), number]
        )
        return total / number

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """See `base.ReplicaShare.gather`."""
        context = tf.distribute.get_replica_context()
        return [joined[: self.n] for joined in context.all_gather(list(parts), axis=0)]


class Replicas:
    """Runs functions once in each replica, on a part of the rows.

    Args:
        strategy: the strategy, of two or more replicas.
        runtime: the runtime of the model that was built under it, which is told of its share in
            each replica's thread.
    """

    def __init__(self, strategy: tf.distribute.Strategy, runtime: Runtime):
        self.strategy = strategy
        self.count: int = strategy.num_replicas_in_sync
        self._runtime = runtime

    def spread(
        self, function: Callable[..., Any], rows: slice, joining: Joining
    ) -> Callable[..., Any]:
        """A function that splits rows, runs another on each part, and joins the results.

        Args:
            function: what each replica runs.
            rows: which of its arguments have a row for each example; others are given to all.
            joining: how the results are joined.
        """

        def call(*tensors: Any) -> Any:
            data = tensors[rows]
            first = next(t for t in tf.nest.flatten(data) if t is not None)
            # On the host, so that each device is sent its own rows and no others.
            with tf.device("CPU:0"):
                n = tf.shape(first)[0]
                shares = [MirroredShare(i, self.count, n) for i in range(self.count)]
                parts = [_map(lambda t, own=share.rows: t[own], data) for share in shares]
            results: list[Any] = [None] * self.count

            def run() -> None:
                context = tf.distribute.get_replica_context()
                i = int(tf.get_static_value(context.replica_id_in_sync_group))
                arguments = list(tensors)
                arguments[rows] = parts[i]
                self._runtime.share = shares[i]
                try:
                    # Not returned: of values that replicas return, None cannot be told apart.
                    results[i] = function(*arguments)
                finally:
                    self._runtime.share = None

            self.strategy.run(run)
            return self._join(joining, results, n)

        return call

    def _join(self, joining: Joining, results: list[Any], n: Tensor) -> Any:
        if isinstance(joining, tuple):
            columns = zip(*results, strict=True)
            joined = [self._join(j, list(c), n) for j, c in zip(joining, columns, strict=True)]
            kind = type(results[0])
            return kind(*joined) if hasattr(kind, "_fields") else tuple(joined)
        if joining == "first":
            return results[0]
        if joining == "logs":
            return self._logs(results)
        if joining == "sum":
            return _map(lambda *parts: tf.add_n(parts), *results)
        # Of rows that every replica has worked on, those of the first.
        return _map(lambda *parts: tf.concat(parts, axis=0)[:n], *results)

    def _logs(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        """Metrics of all that the replicas have counted, as Keras gives them after an epoch."""
        whole = self._runtime.model.get_metrics_result()
        if whole.keys() == results[0].keys():
            return whole
        # Those of a step of the user's own; as Keras, their mean.
        return tf.nest.map_structure(
            lambda *parts: tf.reduce_mean(tf.stack([tf.convert_to_tensor(p) for p in parts]), 0),
            *results,
        )


def _map(function: Callable[..., Any], *structures: Any) -> Any:
    """Maps over tensors of structures that are alike; None stays None."""
    return tf.nest.map_structure(
        lambda *leaves: None if leaves[0] is None else function(*leaves), *structures
    )
