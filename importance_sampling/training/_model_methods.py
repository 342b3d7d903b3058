"""What belongs to the model, of which a training is often asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import keras


class ModelMethods:
    """Methods of the model that is trained; a training is used in its place for `fit` only.

    Attributes:
        original_model: the user's model.
    """

    original_model: keras.Model

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `evaluate` of the model.

        Args:
            *args: as of `keras.Model.evaluate`.
            **kwargs: likewise.
        """
        return self.original_model.evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `predict` of the model.

        Args:
            *args: as of `keras.Model.predict`.
            **kwargs: likewise.
        """
        return self.original_model.predict(*args, **kwargs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the model; `save_state` saves the training, too.

        Args:
            *args: as of `keras.Model.save`.
            **kwargs: likewise.
        """
        self.original_model.save(*args, **kwargs)

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints the summary of the model.

        Args:
            *args: as of `keras.Model.summary`.
            **kwargs: likewise.
        """
        self.original_model.summary(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({vars(self).get('original_model')!r})"

    if not TYPE_CHECKING:
        # Type checkers are to find what is not there.

        def __getattr__(self, name: str) -> NoReturn:
            missing = f"{type(self).__name__!r} object has no attribute {name!r}"
            # None while the training itself is being made, or copied.
            model = vars(self).get("original_model")
            if model is not None and not name.startswith("_") and hasattr(type(model), name):
                missing += f"; the model that it trains has: `training.original_model.{name}`"
            # With name and object Python asks "Did you mean" for what comes near.
            raise AttributeError(missing, name=name, obj=self)
