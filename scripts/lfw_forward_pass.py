#!/usr/bin/env python3
"""`importance-sampling lfw-forward-pass`, under the name it had in the original library."""

import sys
from pathlib import Path

# This directory has a script of the package's own name, which would be imported in its place.
HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]

from importance_sampling.experiment.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(script=("lfw-forward-pass", Path(__file__).name)))
