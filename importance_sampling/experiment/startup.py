"""Loads Keras and its backend without what they write to standard error while they start."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Lines of TensorFlow and XLA: with a date, or with the letter of a level and a number.
_STARTUP = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:\d\d|[IWE]0000 00:00:\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "
    rb"|WARNING: All log messages before absl|To enable the following instructions: "
)


@contextlib.contextmanager
def without_startup_lines() -> Iterator[None]:
    """Holds back what is written to standard error; all but log lines of a start come after it.

    They are written past Python and before there is any way to say that they are not wanted. For
    those that come later, as when TensorFlow finds its devices, there is one.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.ExitStack() as stack:
        try:
            saved = os.dup(2)
        except OSError:
            # There is no standard error.
            yield
            return
        stack.callback(os.close, saved)
        held = stack.enter_context(tempfile.TemporaryFile())
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            held.seek(0)
            for line in held:
                if not _STARTUP.match(line):
                    os.write(2, line)


def load_backend() -> None:
    """Imports Keras, and has its backend find its devices, unless that has happened already.

    What must come before that, as `keras.distribution.initialize` or the devices of TensorFlow, is
    then too late.
    """
    if "keras" in sys.modules:
        return
    with without_startup_lines():
        import keras

        # Random seeds of Keras load it on every backend, where it is installed.
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
        keras.ops.zeros(())
