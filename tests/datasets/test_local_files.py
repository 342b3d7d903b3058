"""MNIST and CIFAR from local files."""

import numpy as np
import pytest

from importance_sampling.datasets import CIFAR10, MNIST

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def write_npz(path, **changes):
    arrays = {
        "x_train": np.zeros((6, 28, 28), np.uint8),
        "y_train": np.arange(6),
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "y_test": np.arange(2),
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_local_files(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "mnist.npz")
    for source in (path, tmp_path, str(path)):
        assert len(MNIST(source).train_data) == 6
    monkeypatch.setenv("IMPORTANCE_SAMPLING_DATA", str(tmp_path))
    assert MNIST().shape == (28, 28, 1)
    write_npz(
        tmp_path / "cifar10_part.npz",
        x_train=np.zeros((6, 32, 32, 3), np.uint8),
        x_test=np.zeros((2, 32, 32, 3), np.uint8),
    )
    assert CIFAR10().shape == (32, 32, 3)


def test_missing_and_broken_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"No mnist\.npz at"):
        MNIST(tmp_path)
    broken = tmp_path / "mnist.npz"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises((OSError, ValueError), match=r"mnist\.npz"):
        MNIST(broken)
    with pytest.raises(ValueError, match=r"lacks the arrays \['y_test'\]"):
        MNIST(write_npz(tmp_path / "part.npz", y_test=None))

    def no_network():
        raise OSError("no network")

    monkeypatch.delenv("IMPORTANCE_SAMPLING_DATA", raising=False)
    monkeypatch.setattr("keras.datasets.mnist.load_data", no_network)
    with pytest.raises(RuntimeError, match=r"put mnist\.npz .* set IMPORTANCE_SAMPLING_DATA"):
        MNIST()


def test_real_mnist(data_folder):
    dataset = MNIST(data_folder)
    assert len(dataset.train_data) == 60_000 and len(dataset.test_data) == 10_000
    assert dataset.output_size == 10
    x, y = dataset.train_data[:100]
    assert x.max() == 1.0 and (y.sum(1) == 1).all()
