"""The Penn Treebank, on small files written here as documented."""

import numpy as np
import pytest
from helpers import check_like_numpy

from importance_sampling.datasets import PennTreeBank

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


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
