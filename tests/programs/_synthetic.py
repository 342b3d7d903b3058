"""Small data that small networks learn soon.

Fifty rows, so that the last of the batches of 16 is a partial one; 48 where a network takes long
to compile, which a second size of batch would do again.
"""

import numpy as np

ROWS = 50


def images(size=12, classes=4, channels=0, rows=ROWS):
    """Noise with one bright quadrant, which is the label; `(rows, size, size)` without channels."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, rows)
    x = rng.uniform(0, 0.3, (rows, size, size)).astype("float32")
    half = size // 2
    for image, label in zip(x, y, strict=True):
        down, right = divmod(int(label), 2)
        image[down * half : (down + 1) * half, right * half : (right + 1) * half] += 0.7
    if channels:
        x = np.repeat(x[..., None], channels, axis=-1)
    return x, y.astype("int64")


def table(columns=5, rows=ROWS):
    """Normal columns; the label is whether the first two are above zero together."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(rows, columns)).astype("float32")
    return x, (x[:, 0] + x[:, 1] > 0).astype("int64")


def tokens(length=8, vocabulary=20, classes=2, rows=ROWS, shortest=3):
    """Sequences padded by zeros; the label is the first token's remainder."""
    rng = np.random.default_rng(3)
    x = rng.integers(1, vocabulary, (rows, length))
    for row, end in zip(x, rng.integers(shortest, length + 1, rows), strict=True):
        row[end:] = 0
    return x.astype("int32"), (x[:, 0] % classes).astype("int64")


def waves(length=16, rows=ROWS):
    """Slow or fast sines with noise, `(rows, length, 1)`, and which of the two."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, rows)
    t = np.linspace(0, 2 * np.pi, length)
    phase = rng.uniform(0, 2 * np.pi, rows)
    x = np.sin(t * (1 + 3 * y[:, None]) + phase[:, None]) + 0.1 * rng.normal(size=(rows, length))
    return x[..., None].astype("float32"), y.astype("int64")
