"""Weights files that lead out of themselves, that lie, and good ones."""

import io
import zlib

import h5py
import keras
import numpy as np
import pytest
from crafted import refused
from keras import layers

from importance_sampling.experiment.build import load_initial_weights
from importance_sampling.utils.keras_utils import load_weights_by_name, weights_from_hdf5

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

NAN = float("nan")


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


def packed_file(path, kernel, **options):
    with h5py.File(path, "w") as file:
        group = file.create_group("first")
        group.attrs["weight_names"] = [b"first/kernel"]
        group.create_dataset("first/kernel", data=kernel, chunks=(2, 3), **options)


def test_chunks_that_grow(tmp_path):
    """HDF5 unpacks a chunk to all that comes out of it, whatever its size should be."""
    path, kernel = tmp_path / "crafted.h5", np.ones((2, 3), np.float32)
    for options in ({}, {"fletcher32": True}, {"shuffle": True}):
        packed_file(path, kernel, compression="gzip", **options)
        model = network()
        assert len(load_weights_by_name(path, model)) == 1
        np.testing.assert_array_equal(model.get_weights()[0], kernel)
        with h5py.File(path, "a") as file:
            bomb = zlib.compress(bytes(2**24), 9)
            file["first/first/kernel"].id.write_direct_chunk((0, 0), bomb + b"\0\0\0\0")
        refused(
            "crafted.h5", "unpacks to more than its 24 bytes", load_weights_by_name, path, model
        )
        with h5py.File(path, "a") as file:
            file["first/first/kernel"].id.write_direct_chunk((0, 0), b"no stream of zlib")
        place = r"crafted\.h5 .*/first/first/kernel cannot be read"
        refused("crafted.h5", place, load_weights_by_name, path, model)
    packed_file(path, kernel.astype(int), scaleoffset=0)
    refused("crafted.h5", "other filters than gzip", load_weights_by_name, path, network())


@pytest.mark.parametrize("names", [np.full(20_000, b"kernel"), ["kernel"] * 2000])
def test_more_names_than_any_layer_has(tmp_path, names):
    """Each of the second kind could be a text as long as the file."""
    with h5py.File(tmp_path / "crafted.h5", "w", libver="latest") as file:
        group = file.create_group("first")
        group.attrs["weight_names"] = names
        message = f"{len(names):,} values as its weight_names"
        refused("crafted.h5", message, load_weights_by_name, group, network())


def test_many_data_sets_are_counted_together(tmp_path):
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w") as file:
        for i in range(100):
            file.create_dataset(f"{i:03d}", (2**20,), np.float32, chunks=(2**10,))
    assert path.stat().st_size < 200_000
    refused("crafted.h5", "with what comes before it", load_weights_by_name, path, network())


def test_data_that_cannot_be_read_names_the_layer(tmp_path):
    """A checksum that is wrong, which HDF5 finds when the data is read."""
    path = tmp_path / "crafted.h5"
    packed_file(path, np.arange(6, dtype=np.float32).reshape(2, 3), fletcher32=True)
    data = path.read_bytes()
    place = data.index(np.arange(6, dtype=np.float32).tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    message = r"crafted\.h5 .*/first/first/kernel cannot be read as weights of .*first/kernel"
    refused("crafted.h5", message, load_weights_by_name, path, network())


def test_a_file_that_is_only_in_memory(tmp_path):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_group("first").attrs["weight_names"] = [b"kernel"]
        file["first/kernel"] = np.ones((2, 3), np.float32)
        model = network()
        assert load_weights_by_name(file["first"], model) == []
        file["first"].attrs["weight_names"] = [b"first/kernel"]
        file["first/first/kernel"] = file["first/kernel"]
        assert len(load_weights_by_name(file, model)) == 1
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((2, 3)))


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
