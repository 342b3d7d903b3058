"""Data sets of images in files, on small trees written here as documented."""

import threading

import numpy as np
import pytest
from helpers import check_like_numpy
from PIL import Image

from importance_sampling.datasets import LFW, MIT67, CASIAWebFace, CASIAWebFace2

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

# What the networks of keras.applications subtract from blue, green and red.
MEANS = np.array([103.939, 116.779, 123.68])


def write_image(path, colour, size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=100)
    return path


def colour(image):
    """The colour of an image's middle, from how it is given to a network."""
    return (np.asarray(image, "float64")[112, 112] + MEANS)[::-1].round()


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
