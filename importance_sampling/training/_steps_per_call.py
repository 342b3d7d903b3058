"""How many training steps go to the device in one call: as many as the model was compiled for."""

from __future__ import annotations

import keras

# Steps for which a program of its own is compiled where more are asked for: an epoch ends in
# fewer, and the history draws as many at once.
_FEW = 8


class StepsPerCall:
    """What `steps_per_execution` of the model asks for, and what of it can be had.

    Args:
        model: the user's model.

    Attributes:
        told: int, the steps that callbacks are told of together, with Keras' meaning.
        most: int, the most steps in one call of the device.
    """

    def __init__(self, model: keras.Model):
        given = getattr(model, "steps_per_execution", None)
        self.told = given if isinstance(given, int) and given > 1 else 1
        self.most = 1

    def allow(self, many: bool) -> None:
        """Settles whether calls of several steps are made for this run.

        Args:
            many: bool, whether nothing needs the host between one step and the next.
        """
        self.most = self.told if many else 1

    def room(self, count: int) -> int:
        """For how many steps to compile what makes some of them.

        Args:
            count: int, the steps to make, at most `most`.
        """
        return self.most if count > _FEW else min(self.most, _FEW)
