"""Archives and arrays that lie about themselves, or hold no images and labels."""

import os
import struct
import zipfile

import numpy as np
import pytest
from crafted import header, refused, write

from importance_sampling._files import read_npy, read_npz
from importance_sampling.datasets import (
    CIFAR100,
    MNIST,
    TIMIT,
    ImageNetDownsampled,
    InMemoryDataset,
    InMemoryImageDataset,
    PixelByPixelMNIST,
    convert_timit,
)
from importance_sampling.utils.keras_utils import load_weights_by_name

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

NAN = float("nan")


def images(**changes):
    arrays = {
        "x_train": np.zeros((6, 4, 4), np.uint8),
        "y_train": np.arange(6),
        "x_test": np.zeros((2, 4, 4), np.uint8),
        "y_test": np.arange(2),
    }
    return arrays | changes


LYING = {
    "more than there is": header((2**40,)),
    "2^60 values": header((2**20, 2**20, 2**20), "<f8"),
    "less than there is": header((1,)) + bytes(8),
    "a negative length": header((-1, 4)),
    "text without characters": header((10**12,), "<U0"),
    "an object": header((1,), "|O") + b"I1\n.",
    "records": header((1,), [("a", "<f4")]) + bytes(4),
    "no end of brackets": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
    "an open text": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9) + b"{'descr'(",
    "a head as long as it may say": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    "no head": b"\x93NUMPY",
    "nothing": b"",
    "another version": b"\x93NUMPY\x09\x00",
}


@pytest.mark.parametrize("content", LYING.values(), ids=LYING)
def test_arrays_that_lie_about_themselves(tmp_path, content):
    path = write(tmp_path / "mnist.npz", images(), {"y_train": content})
    refused("mnist.npz", r"y_train\.npy", MNIST, path)
    (tmp_path / "alone.npy").write_bytes(content)
    for mmap in (False, True):
        refused(
            "alone.npy", "cannot be read as a .npy file", read_npy, tmp_path / "alone.npy", mmap
        )


def test_only_what_is_asked_for_is_read(tmp_path):
    """Whatever else is in the archive."""
    others = {"huge": header((2**40,)), "pickled": header((1,), "|O") + b"I1\n."}
    path = write(tmp_path / "mnist.npz", images(), others)
    assert len(MNIST(path).train_data) == 6
    refused("mnist.npz", r"huge\.npy|pickled\.npy", read_npz, path)


def test_archives_that_grow(tmp_path):
    """300 MB of zeros in 300 kB."""
    size = 300 * 2**20
    path = tmp_path / "mnist.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("x_train.npy", "w") as member:
            member.write(header((size // 16, 4, 4), "|u1"))
            for _ in range(300):
                member.write(bytes(2**20))
        for name in ("y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", header((0,)))
    assert path.stat().st_size < 2**20
    refused("mnist.npz", r"314,5.* more than 100 times", MNIST, path)


def test_archives_whose_members_share_their_bytes(tmp_path):
    """Each grows a little, all of them together without end."""
    content = header((2**24,), "|u1") + bytes(2**24)
    path = write(tmp_path / "one.npz", {}, {"a": content})
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    entries = b"".join(entry.replace(b"a.npy", bytes([97 + i]) + b".npy") for i in range(20))
    counts = struct.pack("<HHII", 20, 20, len(entries), start)
    path.write_bytes(data[:start] + entries + data[end : end + 8] + counts + b"\0\0")
    refused("one.npz", r"335,5.* more than 100 times", read_npz, path)


def test_archives_that_numpy_does_not_write(tmp_path):
    path = write(tmp_path / "mnist.npz", images(), packing=zipfile.ZIP_LZMA)
    refused("mnist.npz", "does not use", MNIST, path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", b"1")
        archive.writestr("x_train.npy", b"2")
    refused("mnist.npz", r"two members x_train\.npy", MNIST, path)
    path.write_bytes(
        write(path, images())
        .read_bytes()
        .replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    )
    refused("mnist.npz", "is encrypted", MNIST, path)


def test_an_array_whose_checksum_is_wrong(tmp_path):
    path = write(tmp_path / "mnist.npz", images(), packing=zipfile.ZIP_STORED)
    data = path.read_bytes()
    place = data.index(np.arange(6).tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    refused("mnist.npz", r"y_train\.npy.*CRC", MNIST, path)


CONTENTS = {
    "labels of 0.5": ({"y_train": np.full(6, 0.5)}, "y_train holds labels from 0.5"),
    "labels NaN": ({"y_test": np.array([0.0, NAN])}, "y_test holds labels"),
    "labels negative": ({"y_train": np.arange(6) - 1}, "y_train holds labels from -1"),
    "labels too large": ({"y_test": np.array([0, 2**26])}, "expected integers from 0 to 9"),
    "labels of words": ({"y_train": np.full(6, "a")}, "y_train holds <U1"),
    "labels one-hot": ({"y_train": np.zeros((6, 10))}, "expected a label for each"),
    "labels too few": ({"y_train": np.arange(5)}, "expected a label for each of the 6"),
    "pixels NaN": ({"x_train": np.full((6, 4, 4), NAN)}, "x_train holds values from nan"),
    "pixels infinite": ({"x_test": np.full((2, 4, 4), np.inf)}, "x_test holds values"),
    "pixels negative": ({"x_train": np.full((6, 4, 4), -1)}, "x_train holds values from -1"),
    "pixels too bright": ({"x_train": np.full((6, 4, 4), 256)}, "expected pixels from 0 to 255"),
    "pixels too bright for floats": (
        {"x_train": np.full((6, 4, 4), 200.0)},
        r"floating point images in \[0, 1\]",
    ),
    "pixels of words": ({"x_train": np.full((6, 4, 4), "a")}, "expected images of numbers"),
    "pixels complex": ({"x_train": np.zeros((6, 4, 4), complex)}, "expected images of numbers"),
    "images flat": ({"x_train": np.zeros((6, 16))}, r"x_train holds float64 of shape \(6, 16\)"),
    "images of no size": ({"x_train": np.zeros((6, 0, 4))}, "expected images of numbers"),
    "images of two sizes": ({"x_test": np.zeros((2, 5, 4), np.uint8)}, r"x_test \(5, 4\)"),
    "no images": ({"x_train": np.zeros((0, 4, 4)), "y_train": np.arange(0)}, "has no images"),
    "a scalar": ({"x_train": np.zeros(())}, "expected images of numbers"),
}


@pytest.mark.parametrize(("changes", "message"), CONTENTS.values(), ids=CONTENTS)
def test_contents_that_are_no_images_and_labels(tmp_path, changes, message):
    path = write(tmp_path / "mnist.npz", images(**changes))
    refused("mnist.npz", message, MNIST, path)
    if "floats" not in str(message) and "floating" not in message:
        refused("mnist.npz", message, lambda: PixelByPixelMNIST(path=path))


def test_what_images_and_labels_may_be(tmp_path):
    """All that loaded before and is right."""
    for changes in (
        {"y_train": np.arange(6.0), "y_test": np.arange(2)[:, None]},
        {"x_train": np.full((6, 4, 4, 3), 255), "x_test": np.zeros((0, 4, 4, 3)), "y_test": []},
        {"x_train": np.full((6, 4, 4), 0.5), "x_test": np.full((2, 4, 4), 1, bool)},
        {"x_train": np.asfortranarray(np.arange(96, dtype=">i2").reshape(6, 4, 4))},
    ):
        for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            arrays = images(**{k: np.array(v, order="K") for k, v in changes.items()})
            path = write(tmp_path / "mnist.npz", arrays, packing=packing)
            x, y = MNIST(path).train_data[:]
            np.testing.assert_array_equal(y.argmax(1), np.arange(6))
            expected = arrays["x_train"].reshape(x.shape).astype(np.float32)
            scale = 1 if arrays["x_train"].dtype.kind in "bf" else 255
            np.testing.assert_allclose(x, expected / scale, rtol=1e-6)
    path = write(tmp_path / "cifar100.npz", images(y_train=np.arange(94, 100)))
    assert CIFAR100(path).output_size == 100


def test_arrays_are_those_of_numpy(tmp_path):
    arrays = {
        "text": np.array(["one", "zwei", ""]),
        "scalar": np.array(3.5),
        "none": np.zeros((0, 3)),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">u8"),
        "bytes": np.array([b"a", b"bc"]),
        # What numpy makes of types that it does not know, such as bfloat16.
        "raw": np.array([b"ab", b"cd"], "V2"),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    for name in ("a.npz", "b.npz"):
        found = read_npz(tmp_path / name)
        assert list(found) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype and found[key].flags.writeable
        assert list(read_npz(tmp_path / name, ["big", "text"], only=True)) == ["big", "text"]
    for array in arrays.values():
        np.save(tmp_path / "c.npy", array)
        for mmap in (False, True):
            found = read_npy(tmp_path / "c.npy", mmap)
            np.testing.assert_array_equal(found, array)
            assert found.flags.f_contiguous == array.flags.f_contiguous


def test_labels_of_arrays_given_directly():
    x = np.zeros((28, 2))
    with pytest.raises(ValueError, match=r"Labels must be integers, got 0\.5"):
        InMemoryDataset(x, np.full(28, 0.5), x, np.zeros(28))
    with pytest.raises(ValueError, match=r"one label per example .* got shape \(28, 2\)"):
        InMemoryDataset(x, np.full((28, 2), 0.5), x, np.zeros(28))
    with pytest.raises(ValueError, match="NaN"):
        InMemoryDataset(x, np.full(28, NAN), x, np.zeros(28))
    with pytest.raises(ValueError, match="must be integers, got <U1"):
        InMemoryDataset(x, np.full(28, "a"), x, np.zeros(28))
    with pytest.raises(ValueError, match=r"67,108,865 classes would take 7,516,192,880 bytes"):
        InMemoryDataset(x, np.full(28, 2**26), x, np.zeros(28))
    with pytest.raises(ValueError, match="no labels"):
        InMemoryDataset(x[:0], [], x[:0], [])
    sparse = InMemoryDataset(x, np.array([3.0, 1] * 14), x, np.array([True] * 28))
    assert sparse.output_size == 4
    pictures = np.full((3, 2, 2), NAN)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got values from nan"):
        InMemoryImageDataset(pictures, np.arange(3), pictures, np.arange(3))


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mean", np.full((8, 8, 3), NAN), "got values from nan"),
        ("mean", np.full((8, 8, 3), "a"), "expected pixels, got <U1"),
        ("train_data", np.full((2, 8, 8, 3), NAN), "got values from nan"),
        ("train_data", np.full((2, 8, 8, 3), -1, np.int16), "got values from -1"),
        ("train_data", np.full((2, 8, 8, 3), "a"), "expected pixels, got <U1"),
        ("train_labels", np.array([1, 2**40]), "labels from 1 to"),
    ],
)
def test_small_imagenet_with_wrong_pixels(tmp_path, mmap, name, content, message):
    folder = tmp_path / "imagenet-8x8"
    folder.mkdir()
    arrays = {
        "mean": np.zeros((8, 8, 3)),
        "train_data": np.zeros((2, 8, 8, 3), np.uint8),
        "train_labels": np.array([1, 2]),
        "val_data": np.zeros((2, 8, 8, 3), np.uint8),
        "val_labels": np.array([1, 2]),
    } | {name: content}
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    refused(
        f"{name}.npy", message, lambda: ImageNetDownsampled(tmp_path, 8, mmap=mmap).train_data[:]
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("mnist.npz", "timit.npz", "timit.pickle"):
        os.mkfifo(tmp_path / name)
    refused("pipe.h5", "no regular file", load_weights_by_name, tmp_path / "pipe.h5", [])
    refused("mnist.npz", "mnist.npz", MNIST, tmp_path / "mnist.npz")
    refused("timit.npz", "no regular file", TIMIT, 1, tmp_path / "timit.npz")
    refused("timit.pickle", "no regular", convert_timit, tmp_path / "timit.pickle", tmp_path / "t")
    refused(tmp_path.name, "no regular file", read_npz, tmp_path)
