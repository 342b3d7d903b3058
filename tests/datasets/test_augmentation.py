"""Augmented, whitened and rearranged image data sets."""

import numpy as np
import pytest

from importance_sampling.datasets import (
    AugmentedImages,
    CIFARSanityCheck,
    InMemoryDataset,
    InMemoryImageDataset,
    OntheflyAugmentedImages,
    PixelByPixelMNIST,
    ZCAWhitening,
)

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

SHIFTS = {"width_shift_range": 0.25, "height_shift_range": 0.1, "horizontal_flip": True}


def images(n=12, size=(8, 10), channels=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, *size, channels), "float32")
    return InMemoryImageDataset(x, np.arange(n) % 4, x[:5], np.arange(5) % 4)


def one_image(picture, **params):
    """A hundred random changes of one picture."""
    picture = np.asarray(picture, "float32")[..., None]
    dataset = InMemoryDataset(picture[None], np.zeros(1), picture[None], np.zeros(1), False)
    return OntheflyAugmentedImages(dataset, params, N=100).train_data[:][0][..., 0]


def ramp(rows=21, columns=21):
    """A picture whose values tell where they were: 100 r + c."""
    return 100.0 * np.arange(rows)[:, None] + np.arange(columns)


# -- single changes, against what they should do ---------------------------------------------------


def test_pixel_shifts():
    picture = ramp()
    seen = set()
    for changed in one_image(picture, width_shift_range=[3], fill_mode="constant", cval=-1.0):
        by = 3 if (changed[:, 0] == picture[0, 3] + 100 * np.arange(21)).all() else -3
        seen.add(by)
        expected = np.roll(picture, -by, axis=1)
        expected[:, (slice(-3, None) if by > 0 else slice(0, 3))] = -1.0
        np.testing.assert_allclose(changed, expected, atol=1e-3)
    assert seen == {-3, 3}


def test_shifts_are_fractions_and_stay_in_range():
    rows = [c[10, 10] for c in one_image(ramp(), height_shift_range=0.2)]
    moved = (np.array(rows) - ramp()[10, 10]) / 100
    assert np.abs(moved).max() <= 0.2 * 21 and np.ptp(moved) > 0.2 * 21
    columns = [c[10, 10] for c in one_image(ramp(), width_shift_range=4.0)]
    moved = np.array(columns) - ramp()[10, 10]
    assert np.abs(moved).max() <= 4 and np.ptp(moved) > 4


def test_rotation_and_shear_and_zoom_about_the_middle():
    # A linear picture under linear interpolation shows the matrix itself.
    rows = np.arange(21.0)[:, None] + np.zeros(21)
    columns = rows.T
    for params in ({"rotation_range": 30}, {"shear_range": 30}, {"zoom_range": [0.5, 0.9]}):
        matrices = []
        for r, c in zip(one_image(rows, **params), one_image(columns, **params), strict=True):
            assert abs(r[10, 10] - 10) < 1e-4 and abs(c[10, 10] - 10) < 1e-4
            matrices.append([[r[11, 10] - 10, r[10, 11] - 10], [c[11, 10] - 10, c[10, 11] - 10]])
        m = np.array(matrices)
        if "rotation_range" in params:
            np.testing.assert_allclose(m @ m.transpose(0, 2, 1), [np.eye(2)] * 100, atol=1e-4)
            angle = np.rad2deg(np.arctan2(m[:, 1, 0], m[:, 0, 0]))
        elif "shear_range" in params:
            np.testing.assert_allclose(m[:, 0, 0], 1, atol=1e-4)
            np.testing.assert_allclose(m[:, 1, 0], 0, atol=1e-4)
            angle = np.rad2deg(np.arcsin(-m[:, 0, 1]))
        else:
            np.testing.assert_allclose(m[:, [0, 1], [1, 0]], 0, atol=1e-4)
            zooms = m[:, [0, 1], [0, 1]]
            assert zooms.min() >= 0.5 - 1e-4 and zooms.max() <= 0.9 + 1e-4
            assert np.ptp(zooms) > 0.3 and (zooms[:, 0] != zooms[:, 1]).any()
            continue
        # Of 100 uniform draws from [-30, 30] the largest is below 20 with (5/6)^100 < 2e-8.
        assert np.abs(angle).max() <= 30 + 1e-3
        assert angle.max() > 20 and angle.min() < -20


def test_flips():
    picture = ramp()
    for params, flipped in (
        ({"horizontal_flip": True}, picture[:, ::-1]),
        ({"vertical_flip": True}, picture[::-1]),
    ):
        same = [
            np.array_equal(c, picture) if not np.array_equal(c, flipped) else None
            for c in one_image(picture, **params)
        ]
        assert False not in same
        # 100 fair coins: fewer than 20 of either has p < 1e-9.
        assert 20 < same.count(None) < 80


def test_brightness_and_channel_shift():
    picture = np.linspace(0.1, 0.9, 21 * 21).reshape(21, 21)
    factors = one_image(picture, brightness_range=[0.5, 0.9])[:, 0, 0] / 0.1
    assert 0.5 <= factors.min() < 0.6 and 0.8 < factors.max() <= 0.9 + 1e-6
    brighter = one_image(picture, brightness_range=[3.0, 3.0])
    np.testing.assert_allclose(brighter[0], np.clip(3 * picture, 0, 1), rtol=1e-6)
    shifted = one_image(picture, channel_shift_range=0.2)
    assert shifted.min() >= 0.1 - 1e-6 and shifted.max() <= 0.9 + 1e-6
    by = shifted[:, 10, 10] - picture[10, 10]
    assert np.abs(by).max() <= 0.2 and np.ptp(by) > 0.2


def test_standardization_of_training_and_test_images():
    base = images()
    x, x_test = base.train_data[:][0], base.test_data[:][0]
    params = {"featurewise_center": True, "featurewise_std_normalization": True}
    dataset = OntheflyAugmentedImages(base, params, N=12)
    mean, deviation = x.mean((0, 1, 2)), (x - x.mean((0, 1, 2))).std((0, 1, 2))
    got = dataset.train_data[:][0]
    np.testing.assert_allclose(got, (x[dataset.idxs] - mean) / deviation, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        dataset.test_data[:][0], (x_test - mean) / deviation, rtol=1e-3, atol=1e-4
    )
    params = {
        "samplewise_center": True,
        "samplewise_std_normalization": True,
        "rescale": 2.0,
        "preprocessing_function": lambda image: image + 1,
    }
    dataset = OntheflyAugmentedImages(base, params, N=12)
    for part in (dataset.train_data, dataset.test_data):
        got = part[:][0].astype("float64")
        np.testing.assert_allclose(got.mean((1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(got.std((1, 2, 3)), 1, atol=1e-4)


# -- data sets -------------------------------------------------------------------------------------


def test_an_index_is_always_the_same_image():
    base = images()
    dataset = OntheflyAugmentedImages(base, SHIFTS)
    assert len(dataset.train_data) == 120 and dataset.shape == base.shape
    assert dataset.output_size == 4 and len(dataset.test_data) == 5
    x, y = dataset.train_data[:]
    assert x.dtype == np.float32 and len(np.unique(x.reshape(120, -1), axis=0)) > 115
    rows = [77, 3, 3, 119, -1]
    again = OntheflyAugmentedImages(base, SHIFTS, cache_size=1)
    for source in (dataset, again):
        np.testing.assert_array_equal(source.train_data[rows][0], x[rows])
        np.testing.assert_array_equal(source.train_data[rows][1], y[rows])
    # every image equally often, with its own target
    np.testing.assert_array_equal(np.bincount(dataset.idxs), 10)
    np.testing.assert_array_equal(y, base.train_data[dataset.idxs][1])
    other = OntheflyAugmentedImages(base, SHIFTS, random_state=1)
    assert (other.train_data[:][0] != x).any((1, 2, 3)).mean() > 0.9
    np.testing.assert_array_equal(dataset.test_data[:][0], base.test_data[:][0])
    assert dataset.train_data[[]][0].shape == (0, *base.shape)
    assert dataset.reads_ahead


def test_the_images_used_last_are_kept():
    base = images()
    reads = []
    read = base._train_data
    base._train_data = lambda idxs: (reads.append(len(np.atleast_1d(idxs))), read(idxs))[1]
    dataset = OntheflyAugmentedImages(base, SHIFTS, cache_size=3)
    for idx, expected in ((0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (0, 4), (1, 5)):
        dataset.train_data[[idx]]
        assert len(reads) == expected, idx
    default = OntheflyAugmentedImages(base, SHIFTS)
    reads.clear()
    default.train_data[:12]
    default.train_data[:12]
    assert len(reads) == 12


def test_augmented_images_are_the_same_at_once(tmp_path, monkeypatch, capsys):
    base = images()
    fly = OntheflyAugmentedImages(base, SHIFTS, N=30)
    monkeypatch.setattr(AugmentedImages, "_chunk", 7)
    stored = AugmentedImages(base, SHIFTS, N=30, verbose=True)
    assert "30/30" in capsys.readouterr().out
    assert len(stored.train_data) == 30 and stored.output_shape == (4,)
    for part in ("train_data", "test_data"):
        for a, b in zip(getattr(stored, part)[:], getattr(fly, part)[:], strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(stored.train_data[-1][0], fly.train_data[29][0])
    assert len(AugmentedImages(base, {}).train_data) == 120

    class Full:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    with pytest.raises(OSError, match=r"need .* GiB in .* use OntheflyAugmentedImages"):
        AugmentedImages(base, SHIFTS)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"horizontal_flop": True}, "no augmentation 'horizontal_flop'. Did you mean 'horizontal"),
        ({"fill_mode": "mirror"}, "`fill_mode` must be one of .* got 'mirror'"),
        ({"zoom_range": 1.0}, "`zoom_range` must be below 1 or a pair"),
        ({"zoom_range": [1.0, 2.0, 3.0]}, "`zoom_range` must be below 1 or a pair"),
        ({"brightness_range": [1.0]}, "`brightness_range` must be a pair"),
    ],
)
def test_bad_augmentations_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        OntheflyAugmentedImages(images(), params)


def test_other_bad_arguments_are_refused():
    points = InMemoryDataset(np.zeros((4, 2)), np.arange(4), np.zeros((1, 2)), np.arange(1))
    for make in (lambda: OntheflyAugmentedImages(points, {}), lambda: ZCAWhitening(points)):
        with pytest.raises(ValueError, match=r"images .*\(height, width, channels\)"):
            make()
    with pytest.raises(ValueError, match="`N` must be at least 1, got 0"):
        OntheflyAugmentedImages(images(), {}, N=0)
    with pytest.raises(ValueError, match="`cache_size` must be at least 1"):
        OntheflyAugmentedImages(images(), {}, cache_size=0)


def test_whitening():
    base = images(n=400, size=(3, 4), channels=2)
    # neighbouring pixels that depend on each other
    x = base.train_data[:][0]
    x[:, :, 1:] = 0.3 * x[:, :, :-1] + 0.7 * x[:, :, 1:]
    dataset = ZCAWhitening(base)
    white, y = dataset.train_data[:]
    assert white.shape == x.shape and white.dtype == np.float32
    np.testing.assert_array_equal(y, base.train_data[:][1])
    rows = white.reshape(400, -1).astype("float64")
    # about the channels' means, as the matrix is
    np.testing.assert_allclose(rows.T @ rows / 400, np.eye(24), atol=5e-3)
    centred = (x - x.mean((0, 1, 2))).reshape(400, -1).astype("float64")
    covariance = centred.T @ centred / 400 + 1e-6 * np.eye(24)
    values, vectors = np.linalg.eigh(covariance)
    exact = centred @ (vectors / np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(rows, exact, rtol=1e-2, atol=1e-2)
    # the test images by the training images' matrix
    np.testing.assert_allclose(dataset.test_data[:][0][0], _white_of(base, exact, x), atol=1e-2)
    fly = OntheflyAugmentedImages(base, {"zca_whitening": True}, N=400)
    np.testing.assert_allclose(fly.train_data[:][0], white[fly.idxs], atol=1e-4)


def _white_of(base, exact, x):
    """The first test image is the first image as it was before its neighbours were mixed in."""
    mean = x.mean((0, 1, 2))
    centred = (x - mean).reshape(len(x), -1).astype("float64")
    matrix = np.linalg.lstsq(centred, exact, rcond=None)[0]
    image = base.test_data[:][0][0]
    return ((image - mean).reshape(-1).astype("float64") @ matrix).reshape(image.shape)


def write_cifar(path, n=40):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
    y = (np.arange(n) % 10)[:, None]
    np.savez(path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    return x, y


def test_cifar_sanity_check(tmp_path):
    x, _ = write_cifar(tmp_path / "cifar10.npz")
    dataset = CIFARSanityCheck(replicate=50, replicate_idx=3, path=tmp_path)
    assert dataset.output_size == 2 and len(dataset.train_data) == 8 + 50
    images, targets = dataset.train_data[:]
    np.testing.assert_array_equal(images[:8], x[[3, 5, 13, 15, 23, 25, 33, 35]] / np.float32(255))
    np.testing.assert_array_equal(targets[:8].argmax(1), [0, 1] * 4)
    np.testing.assert_array_equal(images[8:], np.repeat(images[3:4], 50, 0))
    np.testing.assert_array_equal(targets[8:].argmax(1), 1)
    np.testing.assert_array_equal(dataset.test_data[:][1].argmax(1), [0, 1, 0, 1])
    three = CIFARSanityCheck((9, 0, 1), 0, 0, path=tmp_path)
    np.testing.assert_array_equal(three.test_data[:][1].argmax(1), [1, 2, 0, 1, 2, 0])
    with pytest.raises(IndexError, match="`replicate_idx` is 42, but there are 8 images"):
        CIFARSanityCheck(path=tmp_path)
    with pytest.raises(ValueError, match="at least two different ones"):
        CIFARSanityCheck((3,), path=tmp_path)
    with pytest.raises(ValueError, match="`replicate` must be at least 0"):
        CIFARSanityCheck(replicate=-1, path=tmp_path)


def test_pixel_by_pixel_mnist(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=x, y_train=np.arange(6), x_test=x[:2], y_test=np.arange(2))
    dataset = PixelByPixelMNIST(path=path)
    assert dataset.shape == (784, 1) and dataset.output_size == 6
    order = np.random.RandomState(0).permutation(784)
    sequences = dataset.train_data[:][0]
    np.testing.assert_array_equal(sequences[..., 0], x.reshape(6, -1)[:, order] / np.float32(255))
    np.testing.assert_array_equal(dataset.test_data[:][0], sequences[:2])
    other = PixelByPixelMNIST(7, path=path).train_data[:][0]
    assert (other != sequences).any()
    np.testing.assert_array_equal(np.sort(other, axis=1), np.sort(sequences, axis=1))
