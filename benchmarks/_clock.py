"""The callback that times a run and takes turns with other runs; its learning rate."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

# Up to this share of training the learning rate is constant; then it falls to zero.
_CONSTANT = 0.5


def wait_for_turn(state: dict[str, Any]) -> float:
    """Lets the other arms train; the share of its training to which this one may go on."""
    print(f"turn {json.dumps(state)}", flush=True)
    return float(sys.stdin.readline())


def make_schedule(rate: float, total: int) -> Any:
    """The learning rate by optimizer steps, as the optimizer itself computes it.

    Args:
        rate: at the start.
        total: optimizer steps of the training.
    """
    import keras

    constant = int(_CONSTANT * total)
    return keras.optimizers.schedules.CosineDecay(
        rate, total - constant, warmup_target=rate, warmup_steps=constant
    )


def make_clock(rate: float, epochs: int, by_epoch: bool) -> Any:
    """The callback.

    It looks at whole epochs only: where somebody looks at single steps, they cannot go to the
    device together.

    Args:
        rate: the learning rate at the start.
        epochs: epochs of the run; the last may be in parts.
        by_epoch: whether the learning rate is set at the beginning of every epoch, to what it is
            in the middle of it, because nobody knows how many steps there will be.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        # The model is only reached through `Callback.model`.
        reaches_model_by_property = True

        def __init__(self):
            super().__init__()
            self.epochs_done = 0.0
            self.epoch_seconds: list[float] = []
            # Of an epoch, how much one call of `fit` makes.
            self.part = 1.0
            self.target: float | None = None

        @property
        def seconds(self) -> float:
            """All of `fit` that its callbacks see, but for waiting."""
            return sum(self.epoch_seconds)

        def on_train_begin(self, logs: Any = None) -> None:
            if self.target is None:
                self.target = wait_for_turn(self.state())
            self.mark = time.perf_counter()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if by_epoch:
                share = (epoch + 0.5) / epochs
                decay = max(0.0, (share - _CONSTANT) / (1.0 - _CONSTANT))
                self.model.optimizer.learning_rate = rate * 0.5 * (1 + math.cos(math.pi * decay))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            # Read, so that the steps have been made when the clock is, whatever the device.
            loss = float(logs["loss"])
            self.epoch_seconds.append(time.perf_counter() - self.mark)
            self.epochs_done += self.part
            if not math.isfinite(loss):
                raise FloatingPointError(f"The loss is {loss} in epoch {epoch + 1}.")
            share = self.epochs_done / epochs
            if self.target <= share < 1.0:
                self.target = wait_for_turn(self.state())
            self.mark = time.perf_counter()

        def state(self) -> dict[str, Any]:
            return {"share": self.epochs_done / epochs, "seconds": self.seconds}

    return Clock()
