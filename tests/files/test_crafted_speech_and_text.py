"""Speech and text: pickles, archives and words that ask for memory or make no sense."""

import pickle  # noqa: TID251 - what the converter has to refuse
import struct

import numpy as np
import pytest
from crafted import header, refused, write

from importance_sampling._files import read_npz
from importance_sampling.datasets import TIMIT, PennTreeBank, convert_timit

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

NAN = float("nan")


def speech(**changes):
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"x_{part}"] = np.zeros((4, 2), np.float32)
        arrays[f"y_{part}"] = np.arange(4)
        arrays[f"lengths_{part}"] = np.array([1, 3])
    return arrays | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths_train": np.array([9, -5])}, "lengths_train that add up"),
        ({"lengths_val": np.array([2**63 - 1, 2**63 - 1, 6])}, "lengths_val that add up"),
        ({"y_test": np.arange(4) - 1}, "y_test holds labels from -1"),
        ({"y_train": np.array([0, 1, 2, 2**26])}, "expected phonemes from 0 to 9999"),
        ({"x_val": np.full((4, 2), NAN)}, "x_val holds float64 with NaN"),
        ({"x_train": np.full((4, 2), 1e300)}, "x_train holds float64 with NaN, infinity"),
        ({"x_train": np.full((4, 2), "a")}, "x_train holds <U1"),
        ({"x_test": np.zeros((4, 0))}, "x_test of shape"),
        ({"x_test": np.zeros((4, 3))}, "as many features in all parts"),
        ({"y_val": np.full(4, 0.5)}, "y_val with an integer for each frame"),
    ],
)
def test_speech_that_is_none(tmp_path, changes, message):
    path = write(tmp_path / "timit.npz", speech(**changes))
    refused("timit.npz", message, TIMIT, 2, path)
    assert len(TIMIT(2, write(path, speech()), val=True).test_data) == 2


PROGRAMS = {
    # Places in the list of things to be named again, made for all up to them.
    "14 bytes": b"\x80\x02]r\xff\xff\xff\x1fK\x01e.",
    "a place in text": b"(lp500000000\nI1\na.",
    "text of 4 GB": b"\x80\x04\x8e" + struct.pack("<Q", 2**32) + b"abc.",
    "an array of 4 GB": b"\x80\x05\x96" + struct.pack("<Q", 2**32) + b"abc.",
    "a frame of 8 EB": b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b"].",
    "an extension": b"\x80\x02\x82\x01.",
    "an instance": b"(inumpy\nndarray\n.",
    "a thing kept elsewhere": b"Pwhere\n.",
    "a step that is none": b"\xfe.",
    "nothing": b"",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_pickles_that_ask_for_memory_or_more(tmp_path, program):
    path = tmp_path / "timit.pickle"
    path.write_bytes(program)
    refused("timit.pickle", "holds|cannot be read", convert_timit, path, tmp_path / "timit.npz")


def shared(levels):
    """Lists that name the same list again: a few bytes, 10^levels numbers."""
    level = [0.0] * 10
    for _ in range(levels):
        level = [level] * 10
    return level


@pytest.mark.parametrize("levels", [12, 6])
def test_pickles_that_name_the_same_values_again(tmp_path, levels):
    array = np.zeros((1000, 50), np.float32)
    labels = np.zeros(1000, int)
    for train in ([shared(levels)], [array] * 10_000):
        content = [train, [labels] * len(train), [array], [labels], [array], [labels]]
        path = tmp_path / "timit.pickle"
        path.write_bytes(pickle.dumps(content, 2))
        refused("timit.pickle", "again and again", convert_timit, path, tmp_path / "timit.npz")
    # the test part once more as validation is nothing but thrift
    path.write_bytes(pickle.dumps([[array], [labels]] * 3))
    assert len(TIMIT(1, convert_timit(path, tmp_path / "timit.npz")).train_data) == 1000


def test_texts_that_become_bytes_again_and_again(tmp_path):
    """Python 2's bytes are texts here; each call would make another copy of a million."""
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20
    call = b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tRa"
    path = tmp_path / "timit.pickle"
    path.write_bytes(b"\x80\x02]" + text + b"q\x000" + 2000 * call + b".")
    refused("timit.pickle", "type bytes", convert_timit, path, tmp_path / "timit.npz")


def test_labels_in_pickles(tmp_path):
    array = np.zeros((3, 2), np.float32)
    for labels in (np.array([0, 1, -1]), np.array([0, 1, 2**26])):
        content = [[array], [labels], [array], [np.arange(3)], [array], [np.arange(3)]]
        (tmp_path / "timit.pickle").write_bytes(pickle.dumps(content))
        refused(
            "timit.pickle",
            "y_train holds labels",
            convert_timit,
            tmp_path / "timit.pickle",
            tmp_path / "timit.npz",
        )
    assert not (tmp_path / "timit.npz").exists()


@pytest.fixture
def bank(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"ptb.{part}.txt").write_text("the cat <unk>\na cat\n")
    PennTreeBank(2, tmp_path, verbose=False)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_lengths": np.array([9, -2])}, "train_lengths holds lengths from -2"),
        ({"test_lengths": np.array([4, 4])}, "test_lengths holds lengths"),
        ({"train_words": np.full(7, 99)}, "train_words holds numbers from 99"),
        ({"test_words": np.full(7, -1)}, "test_words holds numbers from -1"),
        ({"train_words": np.full(7, 0.5)}, "expected integers in train_words"),
        ({"vocabulary": np.arange(5)}, "expected a list of words"),
        ({"vocabulary": None}, r"lacks the arrays \['vocabulary'\]"),
        ({"train_words": header((2**40,))}, r"train_words\.npy"),
    ],
)
def test_kept_words_that_are_none(bank, changes, message):
    path = bank / "ptb.train-valid.npz"
    arrays = {k: v for k, v in (read_npz(path) | changes).items() if v is not None}
    write(path, arrays)
    refused("ptb.train-valid.npz", message + ".*Remove it", PennTreeBank, 2, bank)


def test_words_that_take_the_room_of_the_longest(bank):
    """As an array, each word takes four bytes for each character of the longest one."""
    text = " ".join(f"w{i}" for i in range(20_000)) + " " + "x" * 50_000
    (bank / "ptb.train.txt").write_text(text)
    refused("ptb.train.txt", "more than 100 times", PennTreeBank, 2, bank, True, False)
    (bank / "ptb.train.txt").write_text("a\0 a b\n")
    refused("ptb.train.txt", "character 0", lambda: PennTreeBank(2, bank, verbose=False))
