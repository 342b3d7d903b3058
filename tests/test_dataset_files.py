"""Text and arrays in files, on small files written here as documented."""

import numpy as np
import pytest
from helpers import check_like_numpy

from importance_sampling.datasets import ImageNetDownsampled, PennTreeBank

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


# -- text ------------------------------------------------------------------------------------------


@pytest.fixture
def ptb(tmp_path):
    (tmp_path / "ptb.train.txt").write_text(" the cat sat \n a cat <unk> the cat\n")
    (tmp_path / "ptb.valid.txt").write_text(" the dog sat\n")
    (tmp_path / "ptb.test.txt").write_text(" a cat\n")
    return tmp_path


def test_penn_treebank(ptb):
    dataset = PennTreeBank(3, ptb, verbose=False)
    words = list(dataset.V)
    assert words == ["<EOS>", "<unk>", "a", "cat", "sat", "the"]
    assert dataset.shape == (3,) and dataset.output_size == 6 and dataset.output_shape == (1,)
    x, y = dataset.train_data[:]
    assert x.dtype == np.int32 and y.dtype == np.int32

    def read(row):
        return " ".join(words[i - 1] for i in row if i)

    assert [(read(row), words[i]) for row, i in zip(x, y[:, 0], strict=True)] == [
        ("the", "cat"),
        ("the cat", "sat"),
        ("the cat sat", "<EOS>"),
        ("a", "cat"),
        ("a cat", "<unk>"),
        ("a cat <unk>", "the"),
        ("cat <unk> the", "cat"),
        ("<unk> the cat", "<EOS>"),
    ]
    np.testing.assert_array_equal(x[1], [6, 4, 0])
    x, y = dataset.test_data[:]
    assert [(read(row), words[i]) for row, i in zip(x, y[:, 0], strict=True)] == [
        ("the", "<unk>"),
        ("the <unk>", "sat"),
        ("the <unk> sat", "<EOS>"),
    ]
    assert len(PennTreeBank(3, ptb, val=False, verbose=False).test_data) == 2
    # no more than the longest sentence with its end
    assert PennTreeBank(50, ptb, verbose=False).shape == (6,)
    check_like_numpy(dataset.train_data)


def test_penn_treebank_cache_follows_the_text(ptb, capsys):
    first = PennTreeBank(3, ptb)
    assert "2/2" in capsys.readouterr().out
    cache = ptb / "ptb.train-valid.npz"
    assert cache.is_file()
    with np.load(cache, allow_pickle=False) as stored:
        assert set(stored["vocabulary"]) == set(first.V)
    # another context from the same cache, without reading the text
    again = PennTreeBank(2, ptb)
    assert capsys.readouterr().out == "" and again.shape == (2,)
    (ptb / "ptb.train.txt").write_text("one <unk> word\n")
    assert list(PennTreeBank(3, ptb, verbose=False).V) == ["<EOS>", "<unk>", "one", "word"]
    cache.write_bytes(cache.read_bytes()[:100])
    with pytest.raises(OSError, match=r"ptb\.train-valid\.npz cannot be read.*Remove it"):
        PennTreeBank(3, ptb)
    cache.unlink()
    PennTreeBank(3, ptb, cache=False, verbose=False)
    assert not cache.exists()


def test_penn_treebank_errors(ptb, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/ptb\.train\.txt"):
        PennTreeBank(3, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`context` must be at least 1"):
        PennTreeBank(0, ptb)
    (ptb / "ptb.train.txt").write_text("no stand-in\n")
    with pytest.raises(ValueError, match=r"ptb\.valid\.txt has the word 'the'"):
        PennTreeBank(3, ptb, verbose=False)
    (ptb / "ptb.train.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"ptb\.train\.txt has no sentences"):
        PennTreeBank(3, ptb, verbose=False)
    (ptb / "ptb.train.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"ptb\.train\.txt is no UTF-8 text"):
        PennTreeBank(3, ptb, verbose=False)


# -- small ImageNet --------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path):
    folder = tmp_path / "imagenet-8x8"
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {
        "mean": rng.uniform(0, 255, (8, 8, 3)),
        "train_data": rng.integers(0, 256, (5, 8, 8, 3), np.uint8),
        "train_labels": np.array([1, 1000, 3, 4, 5]),
        "val_data": rng.integers(0, 256, (2, 8, 8, 3), np.uint8),
        "val_labels": np.array([2, 1]),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return tmp_path, arrays


@pytest.mark.parametrize("mmap", [False, True])
def test_imagenet_downsampled(imagenet, mmap):
    base, arrays = imagenet
    dataset = ImageNetDownsampled(base, size=8, mmap=mmap)
    assert dataset.shape == (8, 8, 3) and dataset.output_size == 1000
    assert len(dataset.train_data) == 10 and len(dataset.test_data) == 2
    x, y = dataset.train_data[:]
    images = arrays["train_data"].astype("float64")
    both = np.concatenate([images, images[:, :, ::-1]])
    np.testing.assert_allclose(x, (both - arrays["mean"]) / 255, atol=1e-6)
    np.testing.assert_array_equal(y.argmax(1), [0, 999, 2, 3, 4] * 2)
    assert (y.sum(1) == 1).all() and x.dtype == np.float32
    np.testing.assert_array_equal(dataset.test_data[:][1].argmax(1), [1, 0])
    check_like_numpy(dataset.train_data)
    assert dataset.reads_ahead is mmap


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_labels", np.array([0, 1, 2, 3, 4]), "labels from 0 to 4, expected 1 to 1000"),
        ("train_labels", np.array([1.0] * 5), "expected one integer for each of the 5"),
        ("val_data", np.zeros((2, 8, 8), np.uint8), r"shape \(2, 8, 8\), expected \(n, 8, 8, 3\)"),
        ("mean", np.zeros((4, 4, 3)), "does not fit images"),
        ("train_data", np.array([{"a": 1}], object), "cannot be read as a .npy file"),
        ("train_data", b"\x93NUMPY\x01\x00", "cannot be read as a .npy file"),
        ("val_labels", None, "There is no"),
    ],
)
def test_imagenet_errors_name_the_file(imagenet, name, content, message):
    path = imagenet[0] / "imagenet-8x8" / f"{name}.npy"
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises((OSError, ValueError), match=message) as error:
        ImageNetDownsampled(imagenet[0], size=8)
    assert f"{name}.npy" in str(error.value)
