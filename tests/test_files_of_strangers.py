"""Files that somebody else made: what leads astray is refused in words, what is good loads."""

import io
import os
import pickle  # noqa: TID251 - what the converter has to refuse
import struct
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from PIL import EpsImagePlugin, Image

from importance_sampling._files import read_npy, read_npz
from importance_sampling.datasets import (
    CIFAR100,
    LFW,
    MIT67,
    MNIST,
    TIMIT,
    CASIAWebFace2,
    ImageNetDownsampled,
    InMemoryDataset,
    InMemoryImageDataset,
    PennTreeBank,
    PixelByPixelMNIST,
    convert_timit,
)
from importance_sampling.experiment.build import load_initial_weights
from importance_sampling.utils.keras_utils import load_weights_by_name, weights_from_hdf5

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

NAN = float("nan")


def refused(name, message, call, *arguments):
    """The error of a file: one of two kinds, and it says which file."""
    with pytest.raises((OSError, ValueError), match=message) as error:
        call(*arguments)
    assert type(error.value) is not UnicodeDecodeError
    assert name in str(error.value)


# -- weights ---------------------------------------------------------------------------------------


def network(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [layers.Input((2,)), layers.Dense(3, name="first"), layers.Dense(1, name="second")]
    )


KERNEL = {
    "old.h5": "model_weights/first/first/kernel",
    "new.weights.h5": "layers/dense/vars/0",
}


@pytest.fixture(params=KERNEL)
def weights(request, tmp_path):
    """A good file of both formats, and where the first kernel lies in it."""
    model, path = network(), tmp_path / request.param
    (model.save if request.param == "old.h5" else model.save_weights)(path)
    with h5py.File(path) as file:
        kernel = next(
            place
            for place in (KERNEL[request.param], "model_weights/first/sequential/first/kernel")
            if place in file
        )
    # What must not be read: a file with numbers of the same shape.
    (tmp_path / "secret.bin").write_bytes(np.full(6, 7, np.float32).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["inner/data"] = np.full((2, 3), 7, np.float32)
    return path, kernel


def external_storage(group, name, folder):
    where = [(str(folder / "secret.bin"), 0, 24)]
    group.create_dataset(name, (2, 3), np.float32, external=where)


def external_link(group, name, folder):
    group[name] = h5py.ExternalLink(str(folder / "secret.h5"), "/inner/data")


def soft_link(group, name, folder):
    group.file["aside"] = np.full((2, 3), 7, np.float32)
    group[name] = h5py.SoftLink("/aside")


def cycle(group, name, folder):
    group[name] = h5py.SoftLink(f"{group.name}/{name}")


def virtual(group, name, folder):
    layout = h5py.VirtualLayout((2, 3), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "inner/data", (2, 3))
    group.create_virtual_dataset(name, layout)


def a_group(group, name, folder):
    group.create_group(name)


def words(group, name, folder):
    group[name] = np.full((2, 3), b"seven")


def nothing(group, name, folder):
    """The name stays where it is listed."""


def deep(group, name, folder):
    group[name] = np.zeros((2, 3), np.float32)
    for _ in range(5000):
        group = group.create_group("g")


def in_itself(group, name, folder):
    group[name] = np.zeros((2, 3), np.float32)
    group["again"] = group


def twice(group, name, folder):
    """Thirty groups that are two each: a thousand million ways through them."""
    group[name] = np.zeros((2, 3), np.float32)
    inner = group.create_group("t")
    for _ in range(30):
        after = inner.create_group("a")
        inner["b"] = after
        inner = after


def huge(group, name, folder):
    group.create_dataset(name, (2**20, 2**12), np.float32, chunks=(1, 2**12))


def huge_chunk(group, name, folder):
    group.create_dataset(
        name, (2, 3), np.float32, chunks=(2**14, 2**14), maxshape=(None, None), compression="gzip"
    )


CRAFTED = [
    (external_storage, "has its data in another file"),
    (external_link, "is a link to another file"),
    (soft_link, "is a soft link"),
    (cycle, "is a soft link"),
    (virtual, "is a virtual data set"),
    (a_group, "is a group, not a data set"),
    (words, "instead of numbers"),
    (nothing, "is missing|has 2 weights"),
    (deep, "in more than 64 others"),
    (in_itself, "is a group that is found elsewhere"),
    (twice, "is a group that is found elsewhere"),
    (huge, r"would take 17,179,869,\d+ bytes"),
    (huge_chunk, r"would take 1,073,741,\d+ bytes"),
]


@pytest.mark.parametrize(("craft", "message"), CRAFTED, ids=lambda c: getattr(c, "__name__", None))
def test_weights_files_that_lead_astray(weights, tmp_path, craft, message):
    path, kernel = weights
    with h5py.File(path, "a") as file:
        group, name = file[kernel].parent, kernel.rsplit("/", 1)[1]
        del group[name]
        craft(group, name, tmp_path)
    model = network(1)
    before = model.get_weights()
    refused(path.name, message, load_weights_by_name, path, model)
    refused(path.name, "dense|first|/g/g", load_weights_by_name, path, model)
    with h5py.File(path) as file:
        refused(path.name, message, load_weights_by_name, file, model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("link", [external_link, soft_link, virtual, external_storage])
def test_links_anywhere_in_a_file_are_refused_before_keras_sees_them(weights, tmp_path, link):
    """Some versions of Keras follow them, at places that this library does not look at."""
    path, _ = weights
    with h5py.File(path, "a") as file:
        link(file.create_group("optimizer/vars"), "0", tmp_path)
    refused(path.name, "/optimizer/vars/0", load_initial_weights, network(), path)
    refused(path.name, "/optimizer/vars/0", load_weights_by_name, path, network())


def test_a_link_in_the_middle_of_a_name_is_found(tmp_path):
    """The last part of a name may be innocent: what is before it leads to another file."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.full((2, 3), 7, np.float32)
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("first")
        group.attrs["weight_names"] = [b"first/kernel"]
        group["first"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    refused("crafted.h5", "/first/first is a link", load_weights_by_name, path, network())
    with h5py.File(path) as file:
        refused("crafted.h5", "/first/first is a link", lambda: list(weights_from_hdf5(file)))


@pytest.mark.parametrize("name", [b"/aside/kernel", b"", "/aside/kernel"])
def test_names_of_weights_stay_in_their_group(tmp_path, name):
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w") as file:
        file["aside/kernel"] = np.zeros((2, 3), np.float32)
        group = file.create_group("first")
        group.attrs["weight_names"] = [name]
        refused("crafted.h5", "/first names", load_weights_by_name, group, network())


def test_more_names_than_any_layer_has(tmp_path):
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("first")
        group.attrs["weight_names"] = np.full(20_000, b"kernel")
        refused("crafted.h5", "20,000 values", load_weights_by_name, group, network())


def test_many_data_sets_are_counted_together(tmp_path):
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w") as file:
        for i in range(100):
            file.create_dataset(f"{i:03d}", (2**20,), np.float32, chunks=(2**10,))
    assert path.stat().st_size < 200_000
    refused("crafted.h5", "with what comes before it", load_weights_by_name, path, network())


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_weights_that_are_nan_are_loaded_with_a_warning(weights, value):
    path, kernel = weights
    with h5py.File(path, "a") as file:
        file[kernel][1, 2] = value
    model = network(1)
    with pytest.warns(UserWarning, match=rf"{path.name}: 1 of the 6 .*first/kernel are NaN"):
        assert len(load_weights_by_name(path, model)) == 4
    assert not np.isfinite(model.get_weights()[0][1, 2])


def test_a_compressed_file_and_what_else_good_files_have(tmp_path):
    """A name given twice to one data set, text beside the weights, unused layers."""
    model, path = network(), tmp_path / "good.h5"
    kernel, bias = model.layers[0].get_weights()
    with h5py.File(path, "w") as file:
        group = file.create_group("first")
        group.attrs["weight_names"] = ["first/kernel:0", "first/bias:0"]
        group.create_dataset("first/kernel:0", data=kernel, compression="gzip", shuffle=True)
        group["first/bias:0"] = bias
        group["again"] = group["first/bias:0"]
        group["notes"] = "made by hand"
        file.create_group("empty")
    target = network(1)
    assert [name.split("/")[-1] for name in load_weights_by_name(path, target)] == [
        "kernel",
        "bias",
    ]
    np.testing.assert_array_equal(target.get_weights()[0], kernel)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("mnist.npz", "timit.npz", "timit.pickle"):
        os.mkfifo(tmp_path / name)
    refused("pipe.h5", "no regular file", load_weights_by_name, tmp_path / "pipe.h5", network())
    refused("mnist.npz", "mnist.npz", MNIST, tmp_path / "mnist.npz")
    refused("timit.npz", "no regular file", TIMIT, 1, tmp_path / "timit.npz")
    refused("timit.pickle", "no regular", convert_timit, tmp_path / "timit.pickle", tmp_path / "t")
    refused(tmp_path.name, "no regular file", read_npz, tmp_path)


# -- arrays ----------------------------------------------------------------------------------------


def header(shape, dtype="<f4"):
    """The head of a `.npy` file that says whatever it likes."""
    text = (
        repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def images(**changes):
    arrays = {
        "x_train": np.zeros((6, 4, 4), np.uint8),
        "y_train": np.arange(6),
        "x_test": np.zeros((2, 4, 4), np.uint8),
        "y_test": np.arange(2),
    }
    return arrays | changes


def write(path, arrays, raw=(), packing=zipfile.ZIP_DEFLATED):
    """A `.npz` file; `raw` are members as bytes."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, array in (arrays | dict(raw)).items():
            if not isinstance(array, bytes):
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=True)
                array = buffer.getvalue()
            archive.writestr(f"{name}.npy", array)
    return path


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


# -- images ----------------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    (tmp_path / "images/bar").mkdir(parents=True)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "images/bar/a.jpg")
    Image.new("RGB", (30, 20), "red").save(tmp_path / "x.png")
    (tmp_path / "TrainImages.txt").write_text("bar/a.jpg\n")
    (tmp_path / "TestImages.txt").write_text("bar/a.jpg\n")
    return tmp_path


def first_image(folder):
    return MIT67(folder).train_data[0]


def test_a_picture_that_is_a_program(scenes, monkeypatch):
    """Pillow goes by content: PostScript in a `.jpg` would start Ghostscript."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a))
    program = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\nshowpage\n%%EOF\n"
    (scenes / "images/bar/a.jpg").write_text(program)
    with Image.open(scenes / "images/bar/a.jpg") as image:
        assert image.format == "EPS"
    refused("bar/a.jpg", r"as an image \(JPEG or PNG\)", first_image, scenes)
    assert not started


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "ICO"])
def test_pictures_in_other_formats(scenes, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, kind)
    (scenes / "images/bar/a.jpg").write_bytes(buffer.getvalue())
    refused("bar/a.jpg", r"as an image \(JPEG or PNG\)", first_image, scenes)


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width, height, rows=b""):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (20_000, 20_000, "exceeds limit|more than 50,000,000"),
        (8_000, 8_000, "8000 x 8000 pixels are more than 50,000,000"),
        (1, 1_000_000, "1 x 1000000 pixels are no picture"),
        (30, 20, "truncated|broken|cannot be read as an image"),
        (0, 20, "cannot be read as an image"),
    ],
)
def test_pictures_that_grow(scenes, width, height, message):
    (scenes / "images/bar/a.jpg").write_bytes(png(width, height))
    refused("bar/a.jpg", message, first_image, scenes)


@pytest.mark.parametrize(
    "line",
    ["a/../../x.png", "bar/../../x.png", "../x.png", "/etc/x.png", "bar/..", "bar/" + 5000 * "x"],
)
@pytest.mark.parametrize("name", ["TrainImages.txt", "TestImages.txt"])
def test_lists_that_lead_out_of_the_folder(scenes, name, line):
    (scenes / "images/a").mkdir()
    (scenes / name).write_text(f"bar/a.jpg\n{line}\n")
    message = "leads out|expected CLASS/FILE|list of images"
    refused(name, message, MIT67, scenes)


def test_pictures_that_are_pipes_or_folders(scenes):
    picture = scenes / "images/bar/a.jpg"
    picture.unlink()
    picture.mkdir()
    refused("bar/a.jpg", "does not exist", MIT67, scenes)
    dataset = CASIAWebFace2(scenes / "images", validation=0)
    refused("bar/a.jpg", "no regular file", lambda: dataset.train_data[0])


def test_numbers_of_any_length_in_lists(tmp_path):
    for i in range(3):
        path = tmp_path / f"all_images/Ada/Ada_{i + 1:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(path)
    (tmp_path / "view2").mkdir()
    pairs = tmp_path / "view2/pairs.txt"
    pairs.write_text(f"1 1\nAda 1 {'9' * 5000}\nAda 1 Ada 2\n")
    refused("pairs.txt", "line 2 names Ada_9", LFW, tmp_path)
    pairs.write_text(f"{'9' * 5000} 1\nAda 1 2\n")
    refused("pairs.txt", "line 1: expected the numbers", LFW, tmp_path)
    pairs.write_text("1 1\nAda 01 2\nAda 1 Ada 0003\n")
    assert len(LFW(tmp_path).test_data) == 2


# -- speech ----------------------------------------------------------------------------------------


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


# -- text ------------------------------------------------------------------------------------------


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


# -- pictures in arrays ----------------------------------------------------------------------------


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
