"""What the demo calls its ways to train; pictures and tables need no backend to know them."""

UNIFORM = "uniform"
SUBSET = "random third of each pool"
POOLS = "importance sampling"
HISTORY = "history of scores"
SAME_NOISE = "same noise, less work"

BY_SCORE = (POOLS, HISTORY, SAME_NOISE)
"""Those that draw by score."""
