"""Data sets of local files, on small trees of real files written here as documented."""

import io
import pickle  # noqa: TID251 - what the converter has to read and to refuse
import threading

import numpy as np
import pytest
from PIL import Image

from importance_sampling.datasets import (
    LFW,
    MIT67,
    TIMIT,
    CASIAWebFace,
    CASIAWebFace2,
    ImageNetDownsampled,
    PennTreeBank,
    convert_timit,
)

pytestmark = pytest.mark.exact

# What the networks of keras.applications subtract from blue, green and red.
MEANS = np.array([103.939, 116.779, 123.68])


def write_image(path, colour, size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=100)
    return path


def colour(image):
    """The colour of an image's middle, from how it is given to a network."""
    return (np.asarray(image, "float64")[112, 112] + MEANS)[::-1].round()


def check_like_numpy(view):
    """What an index selects is what numpy selects from all rows."""
    every_x, every_y = view[:]
    parts = every_x if isinstance(every_x, list) else [every_x]
    n = len(view)
    mask = np.arange(n) % 2 == 0
    for idx in (0, -1, slice(1, None), slice(None, None, -2), [n - 1, 0], [-1], mask, []):
        x, y = view[idx]
        select = np.asarray(idx, int) if isinstance(idx, list) else idx
        np.testing.assert_array_equal(y, every_y[select])
        for got, part in zip(x if isinstance(x, list | tuple) else [x], parts, strict=True):
            np.testing.assert_array_equal(got, part[select])
    for wrong in (n, -n - 1, [0, n]):
        with pytest.raises(IndexError, match=f"has {n} rows"):
            view[wrong]


# -- indoor scenes ---------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    colours = {"bar/a.jpg": (255, 0, 0), "bar/b.jpg": (0, 255, 0), "attic/c.png": (0, 0, 255)}
    for name, value in colours.items():
        write_image(tmp_path / "images" / name, value, size=(300, 100))
    (tmp_path / "TrainImages.txt").write_text("bar/a.jpg\nattic/c.png\n\n")
    (tmp_path / "TestImages.txt").write_text("bar/b.jpg\n")
    return tmp_path


def test_mit67(scenes):
    dataset = MIT67(str(scenes))
    assert dataset.shape == (224, 224, 3) and dataset.output_size == 2 and dataset.reads_ahead
    x, y = dataset.train_data[:]
    assert x.dtype == np.float32 and x.shape == (2, 224, 224, 3)
    np.testing.assert_array_equal(y, [[0, 1], [1, 0]])
    np.testing.assert_allclose([colour(i) for i in x], [[254, 0, 0], [0, 0, 255]], atol=2)
    x, y = dataset.test_data[0]
    np.testing.assert_array_equal(y, [0, 1])
    np.testing.assert_allclose(colour(x), [0, 255, 1], atol=2)
    check_like_numpy(dataset.train_data)


def test_mit67_cuts_out_the_middle(scenes):
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 255
    Image.fromarray(picture).save(scenes / "images/attic/c.png")
    x, _ = MIT67(scenes).train_data[1]
    np.testing.assert_allclose(x[:, 2:-2] + MEANS, 255, atol=1e-3)


def test_mit67_errors_name_the_file(scenes):
    with pytest.raises(NotADirectoryError, match=r"nowhere.*TrainImages\.txt"):
        MIT67(scenes / "nowhere")
    image = scenes / "images/bar/a.jpg"
    image.write_bytes(image.read_bytes()[:200])
    dataset = MIT67(scenes)
    with pytest.raises(OSError, match=r"bar/a\.jpg cannot be read as an image"):
        dataset.train_data[0]
    image.write_text("no image")
    with pytest.raises(OSError, match=r"bar/a\.jpg cannot be read as an image"):
        dataset.train_data[0]
    image.unlink()
    with pytest.raises(FileNotFoundError, match=r"names .*bar/a\.jpg.* 1 of its 2 images"):
        MIT67(scenes)
    write_image(image, "red")
    (scenes / "TestImages.txt").write_text("cellar/x.jpg\n")
    with pytest.raises(ValueError, match=r"TestImages\.txt has images of 'cellar'"):
        MIT67(scenes)
    (scenes / "TestImages.txt").write_text("x.jpg\n")
    with pytest.raises(ValueError, match=r"line 'x\.jpg'; expected CLASS/FILE"):
        MIT67(scenes)
    (scenes / "TestImages.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"TestImages\.txt is empty"):
        MIT67(scenes)
    (scenes / "TestImages.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"TestImages\.txt"):
        MIT67(scenes)


def test_images_are_read_in_a_thread_as_well(scenes):
    dataset = MIT67(scenes)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(dataset.train_data[:][0])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for images in results:
        np.testing.assert_array_equal(images, results[0])


# -- faces -----------------------------------------------------------------------------------------


@pytest.fixture
def casia(tmp_path):
    """Person p's image i has red 20 p and green 20 i; blue tells the anchor from nothing."""
    for person, count in ((1, 3), (2, 2), (3, 1), (5, 2), (10, 2)):
        for i in range(count):
            write_image(tmp_path / f"{person:07d}" / f"{i + 1:03d}.jpg", (20 * person, 20 * i, 0))
    (tmp_path / "readme.txt").write_text("not a person")
    return tmp_path


def who(images):
    """Persons and numbers of images."""
    colours = np.array([colour(image) for image in images])
    return (colours[:, 0] / 20).round().astype(int), (colours[:, 1] / 20).round().astype(int)


def test_casia_triplets(casia):
    dataset = CASIAWebFace(casia, alpha=0.3, embedding=64, triplets=20)
    assert dataset.shape == [(224, 224, 3)] * 3 and dataset.output_size == 64
    assert len(dataset.train_data) == 5 * 20 and len(dataset.test_data) == 4 * 20
    (anchor, positive, negative), y = dataset.train_data[:]
    np.testing.assert_array_equal(y, np.full((100, 1), np.float32(0.3)))
    (a, ai), (p, pi), (n, ni) = who(anchor), who(positive), who(negative)
    np.testing.assert_array_equal(a, p)
    assert (ai != pi).all() and (a != n).all()
    assert set(a) == {1, 2} and set(n) == {1, 2, 3}
    # every image with a partner is an anchor equally often, and all others come up
    assert sorted(zip(a, ai, strict=True)) == sorted(20 * [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)])
    assert set(zip(n, ni, strict=True)) == {(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)}
    # an index is the same triplet whatever else is asked for
    again = CASIAWebFace(casia, triplets=20)
    for one, other in zip(again.train_data[[70, 3]][0], (anchor, positive, negative), strict=True):
        np.testing.assert_array_equal(one, other[[70, 3]])
    other = CASIAWebFace(casia, triplets=20, seed=1).train_data[:][0]
    assert (other[2] != negative).any()
    assert set(who(dataset.test_data[:][0][0])[0]) == {5, 10}
    check_like_numpy(dataset.test_data)


def test_casia_classes(casia):
    dataset = CASIAWebFace2(casia, validation=2)
    assert dataset.output_size == 5 and dataset.output_shape == (1,)
    x, y = dataset.train_data[:]
    np.testing.assert_array_equal(who(x)[0], [1, 1, 2, 3, 5, 10])
    np.testing.assert_array_equal(y[:, 0], [0, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(who(dataset.test_data[:][0])[0], [1, 2, 5, 10])
    assert len(CASIAWebFace2(casia, validation=0).train_data) == 10
    check_like_numpy(dataset.train_data)


def test_casia_errors(casia, tmp_path):
    with pytest.raises(ValueError, match="has 0 persons whose number is not a multiple of 1"):
        CASIAWebFace(casia, validation=1)
    with pytest.raises(ValueError, match="`validation` must be at least 1, got 0"):
        CASIAWebFace(casia, validation=0)
    with pytest.raises(ValueError, match="`validation` must be 0 or at least 2, got 1"):
        CASIAWebFace2(casia, validation=1)
    with pytest.raises(NotADirectoryError, match=r"directory of \.jpg files for each person"):
        CASIAWebFace2(casia / "nowhere")
    empty = tmp_path / "empty"
    (empty / "0000001").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty holds no images"):
        CASIAWebFace2(empty)
    write_image(casia / "somebody" / "001.jpg", "red")
    with pytest.raises(ValueError, match="somebody is not named by a number"):
        CASIAWebFace(casia)


@pytest.fixture
def lfw(tmp_path):
    for person, name in ((1, "Ada"), (2, "Bob_B"), (3, "Cy")):
        for i in range(3):
            write_image(
                tmp_path / "all_images" / name / f"{name}_{i + 1:04d}.jpg",
                (20 * person, 20 * i, 0),
            )
    (tmp_path / "view2").mkdir()
    (tmp_path / "view2/pairs.txt").write_text(
        "2\t1\nAda\t1\t3\nAda\t2\tCy\t1\nBob_B\t1\t2\nBob_B\t3\tAda\t1\n"
    )
    return tmp_path


def test_lfw_pairs(lfw):
    dataset = LFW(lfw, fold=2)
    assert dataset.shape == [(224, 224, 3)] * 2 and dataset.output_size == 1
    (x1, x2), y = dataset.train_data[:]
    np.testing.assert_array_equal(y, [[1], [0]])
    np.testing.assert_array_equal(who(x1), [[1, 1], [0, 1]])
    np.testing.assert_array_equal(who(x2), [[1, 3], [2, 0]])
    (x1, x2), y = dataset.test_data[:]
    np.testing.assert_array_equal(y, [[1], [0]])
    np.testing.assert_array_equal(who(x1), [[2, 2], [0, 2]])
    np.testing.assert_array_equal(who(x2), [[2, 1], [1, 0]])
    assert len(LFW(lfw, fold=1).test_data) == 2
    check_like_numpy(dataset.train_data)


def test_lfw_numbers_and_all_images(lfw):
    pairs, _ = LFW(lfw, fold=1, idxs=True).test_data[:]
    np.testing.assert_array_equal(pairs, [[0, 2], [1, 6]])
    every = LFW(lfw, fold=None)
    assert len(every.train_data) == 9 and len(every.test_data) == 0 and every.output_size == 3
    x, y = every.train_data[[0, 4, 8]]
    np.testing.assert_array_equal(y, [0, 1, 2])
    np.testing.assert_array_equal(who(x), [[1, 2, 3], [0, 1, 2]])
    assert every.paths[4].name == "Bob_B_0002.jpg"
    assert len(every.test_data[:][0]) == 0
    check_like_numpy(every.train_data)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("2 x\n", r"line 1: expected the numbers of folds and of pairs, got '2 x'"),
        ("1 1\nAda 1 2\n", r"has 1 pairs, but its first line says 1 folds of twice 1"),
        ("1 1\nAda 1 2\nAda 1\n", r"line 3: expected PERSON 1 2 or PERSON 1 OTHER 2, got 'Ada 1'"),
        ("1 1\nAda 1 2\nAda 1 Eve 1\n", r"line 3 names Eve_0001\.jpg"),
        ("1 1\nAda 1 4\nAda 1 Cy 1\n", r"line 2 names Ada_0004\.jpg"),
        ("1 1\nAda 1 2\nAda 1 Cy 1\n", r"`fold` must be None or from 1 to 1, .* got 2"),
        ("", r"is empty"),
    ],
)
def test_lfw_errors_name_file_and_line(lfw, pairs, message):
    (lfw / "view2/pairs.txt").write_text(pairs)
    with pytest.raises((ValueError, FileNotFoundError), match=r"pairs\.txt.*" + message):
        try:
            LFW(lfw, fold=2)
        except ValueError as error:
            # the message on the fold names the file behind it
            raise ValueError(f"pairs.txt {error}") from None


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


# -- speech ----------------------------------------------------------------------------------------


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
