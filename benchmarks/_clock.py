"""The callback that times a run, decays its learning rate and takes turns with other runs."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

# Up to this share of training the learning rate is constant; then it falls to zero.
_CONSTANT = 0.5
# Setting it is not free on every backend.
_POINTS = 100


def wait_for_turn(state: dict[str, Any]) -> float:
    """Lets the other arms train; the share of its training to which this one may go on."""
    print(f"turn {json.dumps(state)}", flush=True)
    return float(sys.stdin.readline())


def make_clock(rate: float, epochs: int, total: int | None) -> Any:
    """The callback.

    Args:
        rate: the learning rate at the start.
        epochs: epochs of the run.
        total: optimizer steps after which the run ends, by which the learning rate is decayed.
            None for arms whose epochs differ in length: they are decayed by epochs and, within
            an epoch, by steps, as many as the epoch before had.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        # The model is only reached through `Callback.model`.
        reaches_model_by_property = True

        def __init__(self):
            super().__init__()
            self.steps = self.timed_steps = 0
            self.timed = self.whole = 0.0
            self.epoch = self.in_epoch = 0
            self.length: int | None = None
            self.point = -1
            self.target = 0.0

        @property
        def seconds(self) -> float:
            """Of all steps, the first ones of epochs counted as a mean one of the others."""
            return self.timed / max(self.timed_steps, 1) * self.steps

        def on_train_begin(self, logs: Any = None) -> None:
            self.target = wait_for_turn(self.state())
            self.mark = time.perf_counter()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch, self.in_epoch = epoch, 0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.length = self.in_epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # Read, so that the step has been made when the clock is, whatever the device.
            loss = float(logs["loss"])
            passed = time.perf_counter() - self.mark
            self.whole += passed
            if self.in_epoch:
                self.timed += passed
                self.timed_steps += 1
            self.steps += 1
            self.in_epoch += 1
            if not math.isfinite(loss):
                raise FloatingPointError(f"The loss is {loss} at step {self.steps}.")
            share = self.share()
            if int(_POINTS * share) != self.point:
                self.point = int(_POINTS * share)
                decay = max(0.0, (share - _CONSTANT) / (1.0 - _CONSTANT))
                self.model.optimizer.learning_rate = rate * 0.5 * (1 + math.cos(math.pi * decay))
            if self.steps == total:
                self.model.stop_training = True
            elif share >= self.target:
                self.target = wait_for_turn(self.state())
            self.mark = time.perf_counter()

        def share(self) -> float:
            """How much of its training is done."""
            if total is not None:
                return self.steps / total
            length = self.length or (self.params or {}).get("steps") or self.in_epoch
            return (self.epoch + min(self.in_epoch / length, 1.0)) / epochs

        def state(self) -> dict[str, Any]:
            return {"steps": self.steps, "seconds": self.seconds}

    return Clock()
