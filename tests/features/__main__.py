"""Prints the table for docs/features.md."""

import features

features.load()
print(features.markdown(), end="")
