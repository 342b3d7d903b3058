"""TIMIT, and the converter of its historic format."""

import io
import pickle  # noqa: TID251 - what the converter has to read and to refuse

import numpy as np
import pytest
from helpers import check_like_numpy

from importance_sampling.datasets import TIMIT, convert_timit

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def utterances(dtype=np.float32):
    rng = np.random.default_rng(0)
    content = []
    for lengths in ((4, 6, 2), (5,), (3, 3)):
        content.append([rng.normal(size=(n, 3)).astype(dtype) for n in lengths])
        content.append([rng.integers(0, 40, n) for n in lengths])
    return content


@pytest.mark.parametrize("protocol", range(6))
def test_timit_from_its_historic_format(tmp_path, protocol):
    content = utterances()
    with open(tmp_path / "timit.pickle", "wb") as file:
        pickle.dump(content, file, protocol=protocol)
    path = convert_timit(tmp_path / "timit.pickle", tmp_path / "timit.npz")
    dataset = TIMIT(3, path)
    assert dataset.shape == (3, 3) and dataset.output_shape == (1,)
    assert dataset.output_size == max(y.max() for part in content[1::2] for y in part) + 1
    windows = [
        (x[j - 2 : j + 1], y[j])
        for x, y in zip(content[0], content[1], strict=True)
        for j in range(2, len(x))
    ]
    x, y = dataset.train_data[:]
    assert len(x) == len(windows) == 2 + 4
    np.testing.assert_array_equal(x, [w for w, _ in windows])
    np.testing.assert_array_equal(y[:, 0], [label for _, label in windows])
    assert len(dataset.test_data) == 2 and len(TIMIT(3, path, val=True).test_data) == 3
    check_like_numpy(dataset.train_data)


def test_a_pickle_of_python_2_and_other_layouts(tmp_path):
    # What Python 2 wrote: text with a character for each byte, and numpy's old module names.
    data = np.arange(6, dtype=">f8").reshape(2, 3)
    text = "".join(f"\\x{b:02x}" for b in data.tobytes())
    array = (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nI3\nt"
        "cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'>'\nNNNI-1\nI-1\nI0\ntbI00\n"
        f"S'{text}'\ntb"
    )
    labels = "(lI1\naI2\na"
    program = "(l" + f"(l{array}a" + "a" + f"(l{labels}aa"
    (tmp_path / "old.pickle").write_bytes(("(l" + 3 * program[2:] + ".").encode())
    dataset = TIMIT(1, convert_timit(tmp_path / "old.pickle", tmp_path / "old.npz"))
    np.testing.assert_array_equal(dataset.train_data[:][0][:, 0], data)
    np.testing.assert_array_equal(dataset.train_data[:][1], [[1], [2]])
    # columns first
    content = utterances()
    content[0] = [np.asfortranarray(x) for x in content[0]]
    (tmp_path / "f.pickle").write_bytes(pickle.dumps(content))
    path = convert_timit(tmp_path / "f.pickle", tmp_path / "f.npz")
    np.testing.assert_array_equal(TIMIT(1, path).train_data[:4][0][:, 0], content[0][0])


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def looped():
    loop = []
    loop.append(loop)
    return loop


def exploding():
    level = [0.0] * 10
    for _ in range(60):
        level = [level] * 10
    return level


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(print, "owned"), r"builtins\.print|__builtin__\.print"),
        (Evil(eval, "print('owned')"), r"eval"),
        ([Evil(np.fromfile, "/etc/passwd")], r"fromfile"),
        (Evil(open, "/etc/passwd"), r"io\.open|builtins\.open"),
        ({"a": 1}, "type dict"),
        (["text"], "type str"),
        (np.array([print], object), r"arrays of type|type"),
        (looped(), "a list in itself"),
        (exploding(), "must hold a list"),
        ([[], [], [], [], [], []], "the train part must have"),
        (utterances()[:5], "of length 5"),
        ([*utterances()[:5], [np.zeros(3), np.zeros(4)]], "the test part must have"),
        (None, "type NoneType"),
    ],
    ids=range(13),
)
def test_the_converter_refuses_everything_else(tmp_path, content, message, capsys):
    path = tmp_path / "timit.pickle"
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises((OSError, ValueError), match=message) as error:
            convert_timit(path, tmp_path / "timit.npz")
        assert "timit.pickle" in str(error.value)
    assert "owned" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


def test_pickles_that_lie_about_arrays_are_refused(tmp_path):
    path = tmp_path / "timit.pickle"
    good = pickle.dumps([np.arange(6.0).reshape(2, 3)], protocol=2)
    for old, new in ((b"f8", b"O8"), (b"K\x02K\x03", b"K\x02K\x7f"), (b"dtype", b"dtypo")):
        assert old in good
        path.write_bytes(good.replace(old, new))
        with pytest.raises(OSError, match=r"timit\.pickle (holds|cannot be read)"):
            convert_timit(path, tmp_path / "timit.npz")
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(OSError, match=r"timit\.pickle cannot be read"):
        convert_timit(path, tmp_path / "timit.npz")
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere"):
        convert_timit(tmp_path / "nowhere", tmp_path / "timit.npz")


def test_timit_errors(tmp_path):
    path = tmp_path / "timit.npz"
    with pytest.raises(FileNotFoundError, match=r"timit\.npz"):
        TIMIT(3, path)
    path.write_bytes(pickle.dumps(utterances()))
    with pytest.raises(OSError, match=r"timit\.npz is no \.npz file.*convert_timit"):
        TIMIT(3, path)
    np.savez(path, x_train=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"timit\.npz lacks the arrays \['y_train'"):
        TIMIT(3, path)
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"x_{part}"] = np.zeros((4, 2))
        arrays[f"y_{part}"] = np.arange(4)
        arrays[f"lengths_{part}"] = np.array([1, 3])
    np.savez(path, **arrays)
    assert len(TIMIT(2, path).train_data) == 2
    np.savez(path, **arrays | {"lengths_val": np.array([1, 2])})
    with pytest.raises(ValueError, match=r"lengths_val that add up .* adding up to 3"):
        TIMIT(2, path)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue()[:-100])
    with pytest.raises(OSError, match=r"timit\.npz cannot be read"):
        TIMIT(2, path)
    with pytest.raises(ValueError, match="`context` must be at least 1"):
        TIMIT(0, path)
