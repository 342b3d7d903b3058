"""Files with faults drawn at random, read one after the other by a process of its own.

    python mutations.py COUNT [FORMAT ...]

What a mutated file does to a reader may be anything up to the end of the process, so that the test
starts this program and reads what it prints: a line of JSON for each format, with what went wrong.
"""

from __future__ import annotations

import faulthandler
import json
import pickle  # noqa: TID251 - what the converter has to read
import re
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers
from PIL import Image

from importance_sampling.datasets import (
    LFW,
    MIT67,
    MNIST,
    TIMIT,
    ImageNetDownsampled,
    PennTreeBank,
    convert_timit,
)
from importance_sampling.experiment.build import load_initial_weights
from importance_sampling.utils.keras_utils import load_weights_by_name

MEMORY = 500e6
SECONDS = 5.0

EXTREMES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01"]
NUMBERS = [b"-1", b"0", b"4294967296", b"99999999999999999999", b"2147483647", b"1e400", b"nan"]


# -- faults ----------------------------------------------------------------------------------------


def flip_bits(rng, data):
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)


def extreme_bytes(rng, data):
    width = int(rng.choice([1, 2, 4, 8]))
    place = int(rng.integers(max(1, len(data) - width)))
    data[place : place + width] = EXTREMES[rng.integers(len(EXTREMES))] * width


def extreme_size(rng, data):
    """A number where there may be a size: small in the file, large in memory."""
    width = int(rng.choice([4, 8]))
    value = int(rng.choice([2**20, 2**28, 2**31 - 1, 2**32 - 1, 10**6]))
    place = int(rng.integers(max(1, len(data) - width)))
    order = "little" if rng.random() < 0.7 else "big"
    data[place : place + width] = value.to_bytes(width, order)


def cut_short(rng, data):
    del data[rng.integers(len(data)) :]


def take_out(rng, data):
    place = int(rng.integers(len(data)))
    del data[place : place + int(rng.integers(1, 64))]


def put_in(rng, data):
    place = int(rng.integers(len(data)))
    data[place:place] = rng.bytes(int(rng.integers(1, 64)))


def repeat(rng, data):
    place = int(rng.integers(len(data)))
    data[place:place] = data[place : place + int(rng.integers(1, 64))] * int(rng.integers(1, 200))


def exchange(rng, data):
    first, second = sorted(int(p) for p in rng.integers(len(data), size=2))
    width = min(16, second - first, len(data) - second)
    one, other = bytes(data[first : first + width]), bytes(data[second : second + width])
    data[first : first + width], data[second : second + width] = other, one


def other_number(rng, data):
    """Another number in the place of one that is written in digits."""
    found = list(re.finditer(rb"\d+", data))
    if found:
        match = found[rng.integers(len(found))]
        data[match.start() : match.end()] = NUMBERS[rng.integers(len(NUMBERS))]


FAULTS = [
    flip_bits,
    extreme_bytes,
    extreme_size,
    cut_short,
    take_out,
    put_in,
    repeat,
    exchange,
    other_number,
    other_number,
]


def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if data:
            FAULTS[rng.integers(len(FAULTS))](rng, data)
    return bytes(data)


def whole_file(rng, path):
    path.write_bytes(mutated(rng, path.read_bytes()))


def a_member(rng, path):
    """A fault inside of an archive whose sizes and checksums are right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[rng.integers(len(members))]
    content = members[name]
    kind = rng.integers(3)
    if kind == 0:
        # The head says most.
        members[name] = mutated(rng, content[:128]) + content[128:]
    elif kind == 1:
        values = bytearray(content[128:])
        FAULTS[rng.integers(3)](rng, values)
        members[name] = content[:128] + bytes(values[: len(content) - 128])
    else:
        members[name] = mutated(rng, content)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def png_chunk(rng, path):
    """A fault in a chunk whose checksum is right."""
    data = path.read_bytes()
    chunks, place = [], 8
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = int(rng.integers(len(chunks)))
    chunks[chosen] = chunks[chosen][0], mutated(rng, chunks[chosen][1])
    out = [data[:8]]
    for kind, content in chunks:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        out += [len(content).to_bytes(4, "big"), kind, content, checksum]
    path.write_bytes(b"".join(out))


# -- formats ---------------------------------------------------------------------------------------


def read_all(dataset):
    for part in (dataset.train_data, dataset.test_data):
        if len(part):
            part[: min(len(part), 50)]
    assert dataset.output_size < 10**5, "as many classes as nobody has"


def mnist(folder):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (12, 6, 6), np.uint8),
        "y_train": rng.integers(0, 10, 12),
        "x_test": rng.integers(0, 256, (4, 6, 6), np.uint8),
        "y_test": rng.integers(0, 10, 4),
    }
    np.savez_compressed(folder / "mnist.npz", **arrays)
    return [folder / "mnist.npz"], lambda: read_all(MNIST(folder / "mnist.npz"))


def mnist_of_floats(folder):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.random((8, 6, 6, 1)),
        "y_train": rng.integers(0, 10, (8, 1)).astype(np.float32),
        "x_test": rng.random((4, 6, 6, 1)),
        "y_test": rng.integers(0, 10, (4, 1)).astype(np.float32),
    }
    np.savez(folder / "mnist.npz", **arrays)
    return [folder / "mnist.npz"], lambda: read_all(MNIST(folder / "mnist.npz"))


def imagenet(mmap):
    def make(folder):
        base = folder / "imagenet-4x4"
        base.mkdir()
        rng = np.random.default_rng(0)
        arrays = {
            "mean": rng.uniform(0, 255, (4, 4, 3)),
            "train_data": rng.integers(0, 256, (5, 4, 4, 3), np.uint8),
            "train_labels": np.array([1, 1000, 3, 4, 5]),
            "val_data": rng.uniform(0, 255, (2, 4, 4, 3)).astype(np.float32),
            "val_labels": np.array([2, 1]),
        }
        for name, array in arrays.items():
            np.save(base / f"{name}.npy", array)
        paths = [base / f"{name}.npy" for name in arrays]
        return paths, lambda: read_all(ImageNetDownsampled(folder, 4, mmap=mmap))

    return make


def utterances(rng):
    content = []
    for lengths in ((4, 6), (5,), (3,)):
        content.append([rng.normal(size=(n, 3)).astype(np.float32) for n in lengths])
        content.append([rng.integers(0, 40, n) for n in lengths])
    return content


def timit(folder):
    content = utterances(np.random.default_rng(0))
    (folder / "source").write_bytes(pickle.dumps(content))
    path = convert_timit(folder / "source", folder / "timit.npz")
    (folder / "source").unlink()
    return [path], lambda: read_all(TIMIT(2, path))


def timit_pickle(protocol):
    def make(folder):
        path = folder / "timit.pickle"
        path.write_bytes(pickle.dumps(utterances(np.random.default_rng(0)), protocol))
        return [path], lambda: read_all(TIMIT(2, convert_timit(path, folder / "timit.npz")))

    return make


def bank(folder):
    for part in ("train", "valid", "test"):
        (folder / f"ptb.{part}.txt").write_text("the cat <unk> 12 times\n a cat 3 times\n" * 5)
    return [folder / "ptb.train.txt", folder / "ptb.valid.txt"]


def penn_treebank(folder):
    paths = bank(folder)
    return paths, lambda: read_all(PennTreeBank(3, folder, verbose=False, cache=False))


def penn_treebank_kept(folder):
    bank(folder)
    PennTreeBank(3, folder, verbose=False)
    path = folder / "ptb.train-valid.npz"
    return [path], lambda: read_all(PennTreeBank(3, folder, verbose=False))


def weights(name, load):
    def make(folder):
        model = keras.Sequential([layers.Input((2, 3)), layers.LSTM(2), layers.Dense(3)])
        path = folder / name
        (model.save_weights if ".weights" in name else model.save)(path)

        return [path], lambda: load(path, model)

    return make


def packed_weights(folder):
    model = keras.Sequential([layers.Input((8,)), layers.Dense(8, name="first")])
    path = folder / "packed.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("first")
        group.attrs["weight_names"] = ["first/kernel", "first/bias"]
        options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
        group.create_dataset("first/kernel", data=np.eye(8), chunks=(4, 4), **options)
        group.create_dataset("first/bias", data=np.zeros(8), compression="lzf")
    return [path], lambda: load_weights_by_name(path, model)


def initial_weights(path, model):
    load_initial_weights(model, path)


def picture(name, **options):
    def make(folder):
        path = folder / "images/bar" / name
        path.parent.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(path, **options)
        for part in ("Train", "Test"):
            (folder / f"{part}Images.txt").write_text(f"bar/{name}\n")
        return [path], lambda: read_all(MIT67(folder))

    return make


def lists(folder):
    for name in ("bar/a.jpg", "attic/b.jpg"):
        path = folder / "images" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (30, 20)).save(path)
    paths = [folder / f"{part}Images.txt" for part in ("Train", "Test")]
    for path in paths:
        path.write_text("bar/a.jpg\nattic/b.jpg\n")
    return paths, lambda: read_all(MIT67(folder))


def pairs(folder):
    for i in range(3):
        path = folder / f"all_images/Ada/Ada_{i + 1:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(path)
    path = folder / "view2/pairs.txt"
    path.parent.mkdir()
    path.write_text("2\t1\nAda\t1\t3\nAda\t2\tAda\t1\nAda\t1\t2\nAda\t3\tAda\t1\n")
    return [path], lambda: read_all(LFW(folder))


# What is written, how it is damaged, and which format it stands for.
FORMATS = {
    "npz": (mnist, whole_file),
    "npz-members": (mnist, a_member),
    "npz-floats": (mnist_of_floats, a_member),
    "npy": (imagenet(False), whole_file),
    "npy-mapped": (imagenet(True), whole_file),
    "timit": (timit, whole_file),
    "timit-members": (timit, a_member),
    "pickle-0": (timit_pickle(0), whole_file),
    "pickle-2": (timit_pickle(2), whole_file),
    "pickle-5": (timit_pickle(5), whole_file),
    "text": (penn_treebank, whole_file),
    "text-kept": (penn_treebank_kept, a_member),
    "h5": (weights("old.h5", load_weights_by_name), whole_file),
    "h5-packed": (packed_weights, whole_file),
    "weights.h5": (weights("new.weights.h5", load_weights_by_name), whole_file),
    "weights.h5-keras": (weights("new.weights.h5", initial_weights), whole_file),
    "jpeg": (picture("a.jpg", quality=90), whole_file),
    "jpeg-progressive": (picture("a.jpg", progressive=True), whole_file),
    "png": (picture("a.png"), whole_file),
    "png-chunks": (picture("a.png"), png_chunk),
    "lists": (lists, whole_file),
    "pairs": (pairs, whole_file),
}


# -- measuring -------------------------------------------------------------------------------------


def reset_peak():
    """Begins anew to measure the memory of the process; does nothing where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak():
    """Bytes that the process had at most since `reset_peak`, or since it began."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check(read, names):
    """What a mutated file did, and what of it was wrong."""
    reset_peak()
    before, start, fault, outcome = peak(), time.perf_counter(), None, "loaded"
    try:
        read()
    except (ValueError, OSError) as error:
        outcome = "refused"
        if not any(name in str(error) for name in names):
            fault = f"names no file: {type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - each of them is what is looked for
        fault = f"{type(error).__name__}: {error}"
    seconds, memory = time.perf_counter() - start, peak() - before
    if memory > MEMORY:
        fault = f"{memory / 1e6:.0f} MB ({fault or outcome})"
    if seconds > SECONDS:
        fault = f"{seconds:.1f} s ({fault or outcome})"
    return outcome, fault, seconds, memory


def run(name, count):
    make, damage = FORMATS[name]
    report = {"format": name, "loaded": 0, "refused": 0, "seconds": 0.0, "memory": 0, "faults": []}
    with tempfile.TemporaryDirectory() as folder:
        paths, read = make(Path(folder))
        read()
        good = {path: (path.read_bytes(), path.stat()) for path in paths}
        for number in range(count):
            rng = np.random.default_rng([zlib.crc32(name.encode()), number])
            path = paths[rng.integers(len(paths))]
            damage(rng, path)
            # If the process ends here, this is the last that is heard of it.
            print(json.dumps({"format": name, "number": number}), flush=True)
            outcome, fault, seconds, memory = check(read, [p.name for p in paths])
            report[outcome] += 1
            report["seconds"] = max(report["seconds"], seconds)
            report["memory"] = max(report["memory"], memory)
            if fault:
                report["faults"].append(f"{name} {number} ({path.name}): {fault[:600]}")
            path.write_bytes(good[path][0])
    return report


def main(count, names):
    faulthandler.enable()
    warnings.simplefilter("ignore")
    for name in names or FORMATS:
        print(json.dumps(run(name, count)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
