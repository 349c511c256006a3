"""Any picture file, to upright sRGB pixels or to a named refusal."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from components.media.pictures import (
    MAX_PIXELS,
    MediaError,
    jpeg_quality,
    perceptual_hash,
    read_picture,
    thumbnail,
)

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "yellow": (210, 200, 40)}


def corners(pixels: np.ndarray) -> list[str]:
    """The nearest colour's name in the middle of each quarter, row by row."""
    height, width = pixels.shape[:2]
    points = [pixels[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [min(COLOURS, key=lambda name: np.abs(point - COLOURS[name]).sum()) for point in points]


UPRIGHT = ["red", "green", "blue", "yellow"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}),
        ("progressive.jpg", {"quality": 95, "progressive": True}),
        ("a.png", {}),
        ("a.webp", {"quality": 95}),
        ("lossless.webp", {"lossless": True}),
        ("a.gif", {}),
        ("a.bmp", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.avif", {"quality": 95}),
        ("a.heic", {"quality": 95}),
    ],
)
def test_every_format_gives_the_same_picture(tmp_path, quarters, name, options):
    Image.fromarray(quarters).save(tmp_path / name, **options)
    picture = read_picture(tmp_path / name)
    assert picture.pixels.shape == quarters.shape
    assert picture.pixels.dtype == np.uint8
    assert np.abs(picture.pixels.astype(int) - quarters).mean() < 6
    assert (picture.metadata["width"], picture.metadata["height"]) == (96, 64)
    assert picture.metadata["format"] == {"jpg": "JPEG", "heic": "HEIF"}.get(
        name.split(".")[1], name.split(".")[1].upper()
    )


def test_a_lying_suffix_is_decoded_by_content(tmp_path, quarters):
    Image.fromarray(quarters).save(tmp_path / "real.png")
    (tmp_path / "real.png").rename(tmp_path / "liar.jpg")
    picture = read_picture(tmp_path / "liar.jpg")
    assert picture.metadata["format"] == "PNG"
    assert np.array_equal(picture.pixels, quarters)


@pytest.mark.parametrize("at_least", [None, 16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, quarters, orientation, at_least):
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    undo |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    image = Image.fromarray(quarters)
    if orientation in undo:  # stored so that showing it as EXIF says gives the quarters again
        image = image.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    picture = read_picture(tmp_path / "a.jpg", at_least)
    assert corners(picture.pixels) == UPRIGHT
    assert (picture.metadata["width"], picture.metadata["height"]) == (96, 64)
    assert picture.metadata["has_exif"]
    assert picture.pixels.shape[1] > picture.pixels.shape[0]


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_modes_come_out_as_rgb(tmp_path, mode):
    gray = np.full((40, 40), 255, np.uint8)
    gray[:20] = 0
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gray).convert("RGB").convert(mode)
    name = "a.tiff" if mode in ("CMYK", "YCbCr") else "a.png"
    image.save(tmp_path / name)
    pixels = read_picture(tmp_path / name).pixels
    assert pixels.shape == (40, 40, 3)
    assert pixels[5, 5].max() <= 40  # CMYK without a profile has no full black
    assert pixels[35, 35].min() >= 250


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_picture(tmp_path / "a.jpg", 16).pixels[5, 5]
    assert red[0] > 220
    assert red[1:].max() < 60


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "gray.png"), np.tile(ramp, (16, 1)))
    cv2.imwrite(str(tmp_path / "colour.png"), np.dstack([np.tile(ramp, (16, 1))] * 3))
    for name in ("gray.png", "colour.png"):
        row = read_picture(tmp_path / name).pixels[0, :, 0].astype(int)
        assert np.abs(row - np.arange(256)).max() <= 1, name


def test_float_tiff(tmp_path):
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a.tiff")
    pixels = read_picture(tmp_path / "a.tiff").pixels
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255


def test_transparency_lies_on_white(tmp_path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png").pixels == 255).all()
    Image.new("P", (20, 20), 0).save(tmp_path / "p.png", transparency=0)
    assert (read_picture(tmp_path / "p.png").pixels == 255).all()


def test_interlaced_png(tmp_path, quarters):
    # Pillow does not write Adam7; seven passes of the same filter-less rows, by the PNG specification.
    rows = b""
    for y0, x0, dy, dx in [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]:
        for line in quarters[y0::dy, x0::dx]:
            rows += b"\0" + line.tobytes()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 1)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, quarters)


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack(">I", profile[128:132])[0]
    table = {profile[at : at + 4]: at for at in range(132, 132 + 12 * count, 12)}
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    swapped = bytearray(profile)
    swapped[red + 4 : red + 12], swapped[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(swapped)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_colour_profiles_are_honoured(tmp_path, name):
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / name, icc_profile=swapped_profile(), quality=95)
    red, green, blue = read_picture(tmp_path / name).pixels[5, 5]
    assert green > 200 > 60 > max(red, blue)


def test_a_broken_profile_is_ignored(tmp_path, quarters):
    Image.fromarray(quarters).save(tmp_path / "a.png", icc_profile=b"no profile at all" * 20)
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, quarters)


def test_a_large_jpeg_is_decoded_small_yet_alike(tmp_path):
    rng = np.random.default_rng(1)
    big = Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)).resize((2400, 2000))
    big.save(tmp_path / "a.jpg", quality=92)
    small = read_picture(tmp_path / "a.jpg", 128)
    assert small.pixels.shape == (500, 600, 3)
    assert (small.metadata["width"], small.metadata["height"]) == (2400, 2000)
    full = read_picture(tmp_path / "a.jpg").pixels
    assert full.shape == (2000, 2400, 3)
    shrunk = cv2.resize(full, (600, 500), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small.pixels).mean() < 1.5


def broken(tmp_path, name: str) -> bytes:
    image = Image.effect_noise((200, 200), 60).convert("RGB")
    file = io.BytesIO()
    image.save(file, name)
    return file.getvalue()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_a_cut_off_file_is_refused(tmp_path, name):
    content = broken(tmp_path, name)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError) as caught:
        read_picture(tmp_path / "a")
    assert caught.value.reason in ("truncated", "unreadable", "not media")
    if name in ("JPEG", "PNG", "BMP"):
        assert caught.value.reason == "truncated"


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("I am not a picture, whatever my name says.\n")
    with pytest.raises(MediaError, match="not media"):
        read_picture(tmp_path / "text.jpg")
    with pytest.raises(MediaError, match="missing"):
        read_picture(tmp_path / "absent.jpg")


def test_no_decoder_that_runs_programs(tmp_path):
    (tmp_path / "a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) print\n%%EOF\n")
    with pytest.raises(MediaError, match="not media"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_they_unfold(tmp_path):
    side = 40_000
    assert side * side > MAX_PIXELS
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_000_000), 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(MediaError, match="too large"):
        read_picture(tmp_path / "bomb.png")
    for sides in (65_535, 15_000):
        file = io.BytesIO()
        frames = [Image.new("P", (8, 8), shade) for shade in range(3)]
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], disposal=2)
        content = bytearray(file.getvalue())
        content[6:10] = struct.pack("<HH", sides, sides)  # the logical screen that every frame is drawn on
        (tmp_path / "bomb.gif").write_bytes(content)
        with pytest.raises(MediaError, match="too large"):
            read_picture(tmp_path / "bomb.gif")
    text = PngImagePlugin.PngInfo()
    text.add_text("k", "a" * 100_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "text.png", pnginfo=text)
    with pytest.raises(MediaError):
        read_picture(tmp_path / "text.png")


@pytest.mark.parametrize("quality", [30, 50, 75, 80, 92])
def test_jpeg_quality_is_read_from_the_tables(tmp_path, quarters, quality):
    Image.fromarray(quarters).save(tmp_path / "a.jpg", quality=quality)
    assert read_picture(tmp_path / "a.jpg").metadata["jpeg_quality"] == quality


def test_jpeg_quality_without_tables():
    assert jpeg_quality(None) is None
    assert jpeg_quality({0: [1] * 64}) == 100


def test_perceptual_hash_is_near_for_the_same_picture_and_far_for_another(photo, tmp_path):
    pixels = read_picture(photo).pixels
    hashed = perceptual_hash(thumbnail(pixels))
    Image.fromarray(pixels).save(tmp_path / "again.jpg", quality=50)
    again = read_picture(tmp_path / "again.jpg").pixels
    assert (hashed ^ perceptual_hash(thumbnail(again))).bit_count() <= 4
    assert (hashed ^ perceptual_hash(thumbnail(pixels[::2, ::2]))).bit_count() <= 6
    assert (hashed ^ perceptual_hash(thumbnail(pixels[::-1]))).bit_count() >= 16
