"""Small ImageNet, on small files written here as documented."""

import numpy as np
import pytest
from helpers import check_like_numpy

from importance_sampling.datasets import ImageNetDownsampled

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


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
