"""`python -m importance_sampling`: the command line."""

from __future__ import annotations

import sys

from .experiment.cli import main

if __name__ == "__main__":
    sys.exit(main())
