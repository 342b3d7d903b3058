"""The Penn Treebank for language models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath, read_npz, write_npz
from ..base import IndexedParts

_END = "<EOS>"
_UNKNOWN = "<unk>"


class PennTreeBank(IndexedParts):
    """Words of the Penn Treebank, each to be predicted from those before it in its sentence.

    Inputs are the numbers of up to `context` words from 1 on, followed by 0 where there are
    fewer, `(n, context)`; targets are the next word's number from 0 on, `(n, 1)`. The directory
    holds `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt` as Mikolov made them: a sentence per
    line, words divided by spaces.

    Args:
        context: int, how many words before are seen; no more than the longest sentence has.
        ptb_path: of the directory. Defaults to `~/.keras/datasets/ptb`.
        val: bool, whether the test set is `ptb.valid.txt` instead of `ptb.test.txt`. Defaults to
            `True`.
        verbose: bool, whether to show progress. Defaults to `True`.
        cache: bool, whether the words' numbers are kept in a `.npz` file beside the text, which
            is read again unless the text has changed. Defaults to `True`.

    Raises:
        FileNotFoundError: if a file is missing; names it.
        ValueError: if a file is empty or a word of the test set is unknown.
    """

    def __init__(
        self,
        context: int,
        ptb_path: AnyPath | None = None,
        val: bool = True,
        verbose: bool = True,
        cache: bool = True,
    ):
        if context < 1:
            raise ValueError(f"`context` must be at least 1, got {context!r}.")
        folder = Path("~/.keras/datasets/ptb").expanduser() if ptb_path is None else Path(ptb_path)
        name = "valid" if val else "test"
        files = [folder / "ptb.train.txt", folder / f"ptb.{name}.txt"]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(
                    f"There is no {file}. Put ptb.train.txt, ptb.valid.txt and ptb.test.txt of "
                    "Mikolov's version of the Penn Treebank there."
                )
        encoded = _load(folder / f"ptb.train-{name}.npz", files, cache, verbose)
        self.V = encoded["vocabulary"]
        longest = max(int(encoded[f"{part}_lengths"].max()) for part in ("train", "test"))
        self._context = min(context, longest)
        self._train = _Sentences(encoded["train_words"], encoded["train_lengths"], self._context)
        self._test = _Sentences(encoded["test_words"], encoded["test_lengths"], self._context)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (self._context,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target, an integer."""
        return (1,)

    @property
    def output_size(self) -> int:
        """Number of words in the vocabulary."""
        return len(self.V)


class _Sentences:
    """Words with those before them, put together from the text when they are asked for."""

    def __init__(self, words: np.ndarray, lengths: np.ndarray, context: int):
        self._words, self._context = words, context
        ends = np.cumsum(lengths, dtype=np.int64)
        starts = np.repeat(ends - lengths, lengths)
        # The first word of a sentence has none before it to be predicted from.
        self._targets = np.flatnonzero(np.arange(len(words)) != starts)
        self._starts = starts[self._targets]

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, idxs: Any) -> tuple[np.ndarray, np.ndarray]:
        targets = self._targets[idxs]
        first = np.maximum(self._starts[idxs], targets - self._context)
        positions = first[:, None] + np.arange(self._context)
        seen = positions < targets[:, None]
        x = np.where(seen, self._words[np.where(seen, positions, 0)] + 1, 0)
        return x.astype(np.int32), self._words[targets][:, None].astype(np.int32)


def _load(path: Path, files: list[Path], cache: bool, verbose: bool) -> dict[str, np.ndarray]:
    stamp = np.array([[f.stat().st_size, f.stat().st_mtime_ns] for f in files])
    if cache and path.is_file():
        try:
            encoded = read_npz(path)
        except OSError as error:
            raise OSError(f"{error} Remove it, and it is made again.") from error
        if "stamp" in encoded and np.array_equal(encoded["stamp"], stamp):
            return encoded
    encoded = _encode(files, verbose) | {"stamp": stamp}
    if cache and os.access(path.parent, os.W_OK):
        write_npz(path, encoded, compressed=True)
    return encoded


def _encode(files: list[Path], verbose: bool) -> dict[str, np.ndarray]:
    """Each file's words as numbers, its sentences' lengths, and the sorted vocabulary."""
    import keras

    bar = keras.utils.Progbar(len(files), unit_name="file") if verbose else None
    encoded: dict[str, np.ndarray] = {}
    vocabulary = np.empty(0)
    for part, file in zip(("train", "test"), files, strict=True):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no UTF-8 text: {error}") from error
        sentences = [[*line.split(), _END] for line in lines if line.strip()]
        if not sentences:
            raise ValueError(f"{file} has no sentences.")
        words = np.array([word for sentence in sentences for word in sentence])
        if part == "train":
            vocabulary, numbers = np.unique(words, return_inverse=True)
        else:
            numbers = _look_up(words, vocabulary, file)
        encoded[f"{part}_words"] = numbers.reshape(-1).astype(np.int32)
        encoded[f"{part}_lengths"] = np.array([len(sentence) for sentence in sentences])
        if bar is not None:
            bar.add(1)
    return encoded | {"vocabulary": vocabulary}


def _look_up(words: np.ndarray, vocabulary: np.ndarray, file: Path) -> np.ndarray:
    numbers = np.minimum(np.searchsorted(vocabulary, words), len(vocabulary) - 1)
    unknown = vocabulary[numbers] != words
    if unknown.any():
        place = int(np.searchsorted(vocabulary, _UNKNOWN))
        if place == len(vocabulary) or vocabulary[place] != _UNKNOWN:
            raise ValueError(
                f"{file} has the word {str(words[unknown][0])!r}, which the training text does "
                f"not have, and there is no {_UNKNOWN} to stand for it."
            )
        numbers[unknown] = place
    return numbers
