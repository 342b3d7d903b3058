"""Signals that tell whoever listens what a model said; they cost nothing while nobody does."""

from __future__ import annotations

from blinker import signal


def is_heard(name: str) -> bool:
    """Whether anybody listens to a signal."""
    return bool(signal(name).receivers)


def send(name: str, message: object) -> None:
    """Sends a signal if anybody listens.

    Args:
        name: the signal's name, for example "is.score".
        message: what it carries.
    """
    if is_heard(name):
        signal(name).send(message)
