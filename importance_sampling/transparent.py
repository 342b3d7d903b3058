"""A model that also returns tensors inside it when it trains or tests on a batch."""

from __future__ import annotations

from ._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ._arrays import Nested
from .backend.array_types import tensor_to_numpy
from .backend.base import Tensor

__all__ = ["TransparentModel"]

_OBSERVED = "~observed"
"""The name of the observed tensors in the logs of a step: Keras returns values under names that it
does not know at the end, in order."""


@keras.saving.register_keras_serializable("importance_sampling")
class TransparentModel(keras.Model):
    """A Keras model whose `train_on_batch` and `test_on_batch` also return observed tensors.

    It takes the place of the class of the package `transparent-keras`, which ended with Keras 2.
    The values are those of the very pass that trained or tested, so that with dropout, for
    example, they belong to the loss returned beside them. All other methods are Keras' own.
    Observed tensors are not saved with the model.

    Args:
        inputs: Keras tensors, as for `keras.Model`.
        outputs: Keras tensors, as for `keras.Model`.
        observed_tensors: list of Keras tensors that depend on the inputs. Defaults to none.
        **kwargs: further arguments of `keras.Model`.

    Example:

    ```python
    inputs = keras.Input((784,))
    hidden = keras.layers.Dense(100, activation="relu")(inputs)
    outputs = keras.layers.Dense(10, activation="softmax")(hidden)
    model = TransparentModel(inputs, outputs, observed_tensors=[hidden])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy, hidden_values = model.train_on_batch(x, y)
    ```
    """

    def __init__(
        self,
        inputs: Nested,
        outputs: Nested,
        observed_tensors: Sequence[keras.KerasTensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, **kwargs)
        observed = list(observed_tensors or [])
        for tensor in observed:
            if not isinstance(tensor, keras.KerasTensor):
                raise TypeError(
                    "`observed_tensors` must be Keras tensors such as layers return for a "
                    f"`keras.Input`, got {type(tensor).__name__}."
                )
        self._count = len(observed)
        everything: Any = keras.Model(inputs, [outputs, observed]) if observed else None
        # In a function, because as an attribute it would be tracked and saved as a layer.
        self._everything = lambda: everything
        self._observing = False
        self._observing_functions: dict[str, Any] = {}

    def call(
        self, inputs: Nested, training: bool | None = None, mask: Nested = None, **kwargs: Any
    ) -> Nested:
        """The outputs; while a batch is observed, also the observed tensors.

        Args:
            inputs: as for `keras.Model`.
            training: bool, whether layers behave as in training; None as Keras says.
            mask: masks of the inputs, or None.
            **kwargs: further arguments of `keras.Model.call`.

        Returns:
            The outputs, or `[outputs, observed tensors]`.
        """
        if self._observing:
            return self._everything()(inputs, training=training, mask=mask)
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def compute_loss(
        self,
        x: Nested = None,
        y: Nested = None,
        y_pred: Nested = None,
        sample_weight: Nested = None,
        training: bool = True,
    ) -> Tensor | None:
        """Keras' own loss, of the outputs.

        Args:
            x: inputs.
            y: targets.
            y_pred: what `call` returned.
            sample_weight: weights `(n,)`, or None.
            training: bool, whether it is of a training step. Defaults to `True`.

        Returns:
            A scalar.
        """
        if self._observing:
            y_pred = y_pred[0]
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Nested, y: Nested, y_pred: Nested, sample_weight: Nested = None
    ) -> dict[str, Any]:
        """Keras' own metrics, of the outputs.

        Args:
            x: inputs.
            y: targets.
            y_pred: what `call` returned.
            sample_weight: weights `(n,)`, or None.

        Returns:
            dict of logs; while a batch is observed, also the observed tensors.
        """
        if not self._observing:
            return super().compute_metrics(x, y, y_pred, sample_weight)
        outputs, observed = y_pred
        logs = super().compute_metrics(x, y, outputs, sample_weight)
        # In a list, which Keras leaves alone where it turns the logs into numbers.
        return {**logs, _OBSERVED: observed}

    @contextlib.contextmanager
    def _observe(self, function: str) -> Iterator[None]:
        """Compiled functions that observe take the place of those that Keras' `fit` uses."""
        plain = getattr(self, function)
        setattr(self, function, self._observing_functions.get(function))
        self._observing = True
        try:
            yield
        finally:
            self._observing = False
            self._observing_functions[function] = getattr(self, function)
            setattr(self, function, plain)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Keras' own."""
        self._observing_functions = {}
        super().compile(*args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as a saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """That of a functional model, without the observed tensors."""
        return keras.Model(self.input, self.output, name=self.name).get_config()

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> TransparentModel:
        """Makes a model that observes nothing.

        Args:
            config: what `get_config` returned.
            custom_objects: dict of name to class, as in Keras.

        Returns:
            A `TransparentModel`, not compiled.
        """
        plain = keras.Model.from_config(config, custom_objects=custom_objects)
        return cls(plain.input, plain.output, name=plain.name)

    def _with_observed(self, results: Any) -> Any:
        """Results of Keras with the observed tensors as arrays at the end."""
        logs = results if isinstance(results, dict) else None
        observed = results.pop(_OBSERVED if logs is not None else -1)
        observed = [tensor_to_numpy(value) for value in observed]
        if logs is None:
            return [*results, *observed]
        return logs | {f"observed_{i}": value for i, value in enumerate(observed)}

    def train_on_batch(
        self,
        x: Nested,
        y: Nested = None,
        sample_weight: Nested = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Trains on a batch.

        Args:
            x: inputs, as for `keras.Model.train_on_batch`.
            y: targets.
            sample_weight: weights.
            class_weight: dict of weights of the classes.
            return_dict: bool, whether to return a dict. Defaults to `False`.

        Returns:
            What Keras returns, followed by the observed tensors as numpy arrays; as a dict they
            are "observed_0", "observed_1", ...
        """
        if not self._count:
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        with self._observe("train_function"):
            results = super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        return self._with_observed(results)

    def test_on_batch(
        self, x: Nested, y: Nested = None, sample_weight: Nested = None, return_dict: bool = False
    ) -> Any:
        """Tests on a batch.

        Args:
            x: inputs, as for `keras.Model.test_on_batch`.
            y: targets.
            sample_weight: weights.
            return_dict: bool, whether to return a dict. Defaults to `False`.

        Returns:
            As `train_on_batch`.
        """
        if not self._count:
            return super().test_on_batch(x, y, sample_weight, return_dict)
        with self._observe("test_function"):
            results = super().test_on_batch(x, y, sample_weight, return_dict)
        return self._with_observed(results)
