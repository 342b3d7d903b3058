"""Pictures that are programs or grow without end, and lists that lead out of their folder."""

import io
import struct
import zlib

import pytest
from crafted import refused
from PIL import EpsImagePlugin, Image

from importance_sampling.datasets import LFW, MIT67, CASIAWebFace2

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


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


def png(width, height, kind=2):
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
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


def test_pictures_of_more_values_may_have_fewer_pixels(scenes):
    (scenes / "images/bar/a.jpg").write_bytes(png(7_000, 7_000, kind=6))
    refused("bar/a.jpg", "7000 x 7000 pixels are more than 37,500,000", first_image, scenes)


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
