"""The Penn Treebank for language models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath, read_npz, write_npz
from ..._untrusted import check_expansion, naming, regular_file, shown
from ..base import IndexedParts

_END = "<EOS>"
_UNKNOWN = "<unk>"
_ARRAYS = ("stamp", "vocabulary", "train_words", "train_lengths", "test_words", "test_lengths")


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
        OSError: if a file is missing or cannot be read; names it.
        ValueError: if a file is empty, a word of the test set is unknown, or what was kept is
            malformed; names the file.
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
            encoded = read_npz(path, _ARRAYS, only=True)
            with naming(path):
                _check(encoded)
        except (OSError, ValueError) as error:
            raise type(error)(f"{error} Remove it, and it is made again.") from error
        if np.array_equal(encoded["stamp"], stamp):
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
    vocabulary: dict[str, int] = {}
    for part, file in zip(("train", "test"), files, strict=True):
        size = regular_file(file)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no UTF-8 text: {error}") from error
        sentences = [[*line.split(), _END] for line in lines if line.strip()]
        if not sentences:
            raise ValueError(f"{file} has no sentences.")
        if part == "train":
            words = sorted({word for sentence in sentences for word in sentence})
            vocabulary = {word: number for number, word in enumerate(words)}
            with naming(file):
                encoded["vocabulary"] = _text_array(words, size)
        encoded[f"{part}_words"] = np.array(
            [_number(word, vocabulary, file) for sentence in sentences for word in sentence],
            dtype=np.int32,
        )
        encoded[f"{part}_lengths"] = np.array([len(sentence) for sentence in sentences])
        if bar is not None:
            bar.add(1)
    return encoded


def _text_array(words: list[str], size: int) -> np.ndarray:
    """Words as an array, in which each takes as much memory as the longest."""
    longest = max(words, key=len)
    if any("\0" in word for word in words):
        raise ValueError("there are words with the character 0, which text has not.")
    check_expansion(
        4 * len(words) * len(longest), size, f"a vocabulary with the word {shown(longest)}"
    )
    return np.array(words)


def _number(word: str, vocabulary: dict[str, int], file: Path) -> int:
    found = vocabulary.get(word)
    if found is None:
        found = vocabulary.get(_UNKNOWN)
    if found is None:
        raise ValueError(
            f"{file} has the word {shown(word)}, which the training text does not have, and there "
            f"is no {_UNKNOWN} to stand for it."
        )
    return found


def _check(encoded: dict[str, np.ndarray]) -> None:
    """Shapes, types and ranges of what was kept, before anything is made of it."""
    vocabulary = encoded["vocabulary"]
    if vocabulary.ndim != 1 or vocabulary.dtype.kind != "U" or not len(vocabulary):
        raise ValueError(
            f"expected a list of words as vocabulary, got {vocabulary.dtype} {vocabulary.shape}."
        )
    for part in ("train", "test"):
        words, lengths = encoded[f"{part}_words"], encoded[f"{part}_lengths"]
        if not all(a.ndim == 1 and a.dtype.kind in "iu" and len(a) for a in (words, lengths)):
            raise ValueError(f"expected integers in {part}_words and {part}_lengths.")
        if words.min() < 0 or words.max() >= len(vocabulary):
            raise ValueError(
                f"{part}_words holds numbers from {words.min()} to {words.max()}, expected 0 to "
                f"{len(vocabulary) - 1}."
            )
        if lengths.min() < 1 or lengths.max() > len(words) or lengths.sum() != len(words):
            raise ValueError(
                f"{part}_lengths holds lengths from {lengths.min()} to {lengths.max()}, expected "
                f"those of sentences with {len(words)} words together."
            )
