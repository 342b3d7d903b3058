"""State by declaration: a class names the attributes that are saved and restored."""

from __future__ import annotations

import enum
from collections import deque
from typing import Any

import numpy as np

from ._files import Allocate
from ._storage import copied


class Stateful:
    """Base of everything whose state can be saved and restored.

    `_state` names the attributes that change; a subclass extends its parent's tuple. Their values
    may be numbers, strings, None, arrays, enums, random generators, other `Stateful` objects, and
    lists, tuples, deques and dicts of numbers and arrays.
    """

    _state: tuple[str, ...] = ()

    allocate: Allocate = np.zeros
    """Makes large arrays; copies of them lie where they do."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as plain numbers, arrays, and lists and dicts of them."""
        return {
            name.lstrip("_"): _taken(getattr(self, name), self.allocate) for name in self._state
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken.

        Args:
            state: what `state_dict` returned, of an object made with the same arguments.
        """
        for name in self._state:
            present, saved = getattr(self, name), state[name.lstrip("_")]
            setattr(self, name, _restored(present, saved, self.allocate))
        self._after_loading()

    def _after_loading(self) -> None:
        """Makes what follows from the state; by default nothing does."""


def _taken(value: Any, allocate: Allocate = np.zeros) -> Any:
    if isinstance(value, Stateful) or hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.ndarray):
        return copied(value, allocate)
    if isinstance(value, dict):
        return {key: _taken(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [_taken(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def _restored(present: Any, state: Any, allocate: Allocate = np.zeros) -> Any:
    """A value of the kind of `present`; what holds state of its own is changed in place."""
    if isinstance(present, Stateful) or hasattr(present, "load_state_dict"):
        present.load_state_dict(state)
        return present
    if isinstance(present, np.random.Generator):
        present.bit_generator.state = state
        return present
    if isinstance(present, np.ndarray):
        return copied(np.asarray(state, present.dtype), allocate)
    if isinstance(present, list):
        # In place: others may hold it.
        present[:] = map(_copied, state)
        return present
    if isinstance(present, deque):
        return deque(map(_copied, state), present.maxlen)
    if hasattr(present, "_fields"):
        return type(present)(*(_restored(p, s) for p, s in zip(present, state, strict=True)))
    if state is not None and isinstance(present, bool | int | float | tuple | enum.Enum):
        return type(present)(state)
    return _copied(state)


def _copied(state: Any) -> Any:
    if isinstance(state, np.ndarray):
        return state.copy()
    if isinstance(state, dict):
        return {key: _copied(item) for key, item in state.items()}
    return [_copied(item) for item in state] if isinstance(state, list | tuple) else state
