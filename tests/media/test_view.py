"""One path from a file to views: policies, delivery, and what the manifest learns."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from components.dataset import MANIFEST
from components.errors import InputError
from components.media.pictures import MediaError, read_picture
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy, read_views


def one(path, view="resize64", delivery="as-is") -> tuple[np.ndarray, dict]:
    """The only row of a file."""
    [row] = read_views(path, ViewPolicy.parse(view), Sampling(), Delivery.parse(delivery))
    return row


@pytest.mark.parametrize(
    ("text", "written", "shape"),
    [
        ("resize256", "resize256", (1, 256, 256, 3)),
        ("resize64", "resize64", (1, 64, 64, 3)),
        ("crops", "crops256x9:grid", (9, 256, 256, 3)),
        ("crops224x9:texture", "crops224x9:texture", (9, 224, 224, 3)),
        ("both", "both256x9:grid", (10, 256, 256, 3)),
        ("both128x2:texture", "both128x2:texture", (3, 128, 128, 3)),
    ],
)
def test_view_policies_are_read_and_written(text, written, shape):
    policy = ViewPolicy.parse(text)
    assert str(policy) == written
    assert ViewPolicy.parse(written) == policy
    assert policy.shape == shape


@pytest.mark.parametrize(
    "text", ["", "resize", "resize16", "resize9999", "crops256x0", "resize256x5", "resize64:grid", "a"]
)
def test_a_wrong_view_is_refused_in_one_line(text):
    if text == "resize":
        assert ViewPolicy.parse(text).size == 256
        return
    with pytest.raises(InputError, match=r"view is .* it must be resizeSIZE") as caught:
        ViewPolicy.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "written"), [("as-is", "as-is"), ("common", "common:320:jpeg"), ("common:300:webp",) * 2]
)
def test_deliveries_are_read_and_written(text, written):
    assert str(Delivery.parse(text)) == written
    assert Delivery.parse(written) == Delivery.parse(text)


@pytest.mark.parametrize("text", ["", "as-is:512", "common:7", "common:512:png", "Common"])
def test_a_wrong_delivery_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"delivery is .* it must be as-is or common"):
        Delivery.parse(text)


@pytest.mark.parametrize(("width", "height"), [(300, 100), (100, 300), (100, 100), (37, 90)])
def test_the_resized_view_is_never_squeezed(tmp_path, width, height):
    y, x = np.mgrid[:height, :width]
    disc = (np.hypot(x - (width - 1) / 2, y - (height - 1) / 2) < min(width, height) * 0.3).astype(np.uint8) * 255
    Image.fromarray(np.dstack([disc] * 3)).save(tmp_path / "a.png")
    view = one(tmp_path / "a.png")[0][0, :, :, 0] > 127
    across, down = view[32].sum(), view[:, 32].sum()
    assert abs(int(across) - int(down)) <= 2
    assert across == pytest.approx(0.6 * 64, abs=2)


def test_a_jpeg_read_small_gives_the_view_of_one_read_whole(tmp_path):
    rng = np.random.default_rng(1)
    big = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((1600, 1200))
    big.save(tmp_path / "a.jpg", quality=92)
    Image.fromarray(read_picture(tmp_path / "a.jpg").pixels).save(tmp_path / "a.png")
    small, whole = (one(tmp_path / name)[0].astype(int) for name in ("a.jpg", "a.png"))
    assert np.abs(small - whole).mean() < 1


def test_crops_are_native_pixels(photo):
    pixels = read_picture(photo).pixels
    views, _ = one(photo, "crops128x5:grid")
    assert np.array_equal(views[0], pixels[176:304, 256:384])  # the centre first
    assert np.array_equal(views[1], pixels[:128, :128])
    assert np.array_equal(views[2], pixels[-128:, -128:])
    both, _ = one(photo, "both128x5:grid")
    assert np.array_equal(both[1:], views)
    assert np.abs(both[:1].astype(int) - one(photo, "resize128")[0]).mean() < 0.5
    many = one(photo, "crops128x12:grid")[0]
    assert len({view.tobytes() for view in many}) == 12


def test_texture_crops_go_where_the_detail_is(tmp_path):
    pixels = np.full((400, 600, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    pixels[250:390, 400:590] = rng.integers(0, 256, (140, 190, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    views, _ = one(tmp_path / "a.png", "crops96x3:texture")
    assert views[0].std() > 60
    assert len({view.tobytes() for view in views}) == 3


@pytest.mark.parametrize("rank", ["grid", "texture"])
@pytest.mark.parametrize("size", [(64, 64), (20, 30), (1, 4000), (64, 900), (65, 64)])
def test_a_picture_smaller_than_a_crop_is_enlarged(tmp_path, size, rank):
    Image.effect_noise(size, 50).convert("RGB").save(tmp_path / "a.png")
    views, about = one(tmp_path / "a.png", f"crops64x4:{rank}")
    assert views.shape == (4, 64, 64, 3)
    assert views.std() > 5
    assert (about["width"], about["height"]) == size


def test_delivery_depends_on_the_content_alone(photo, tmp_path):
    first = one(photo, "resize128", "common")[0]
    assert np.array_equal(first, one(photo, "resize128", "common")[0])
    assert 0.5 < np.abs(first.astype(int) - one(photo, "resize128")[0]).mean() < 20
    Image.fromarray(read_picture(photo).pixels).save(tmp_path / "same.png")
    assert np.array_equal(first, one(tmp_path / "same.png", "resize128", "common")[0])
    for codec in ("webp", "h264"):
        other = one(photo, "resize128", f"common:512:{codec}")[0]
        assert 0.5 < np.abs(first.astype(int) - other).mean() < 20


def test_delivery_hides_size_and_quality(tmp_path):
    """The same pictures delivered in two ways; after the common delivery their sizes come from one distribution."""
    rng = np.random.default_rng(0)
    sides = {"large": [], "small": []}
    for _ in range(12):
        scene = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((1200, 1200))
        for name, side in (("large", 1200), ("small", 600)):
            pixels = np.asarray(scene.resize((side, side)))
            seed = hashlib.sha256(pixels).hexdigest()
            sides[name].append(Delivery.parse("common").apply(pixels, seed).shape[0])
    for values in sides.values():
        assert 190 < min(values) < max(values) <= 288
        assert len(set(values)) > 6
    assert abs(np.mean(sides["large"]) - np.mean(sides["small"])) < 50


def test_the_manifest_columns_of_a_picture(photo):
    _, about = one(photo)
    content = photo.read_bytes()
    assert about["content_sha256"] == hashlib.sha256(content).hexdigest()
    expected = {"kind": "picture", "width": 640, "height": 480, "format": "JPEG", "bytes": len(content), "codec": ""}
    expected |= {"time_s": None, "bitrate": None, "frame_rate": None, "jpeg_quality": 90, "has_exif": False}
    assert {name: about[name] for name in expected} == expected
    assert 0 <= about["perceptual_hash"] < 2**64
    assert len(about["thumbnail"]) == 1024
    assert set(about) <= set(MANIFEST.names)


def test_the_manifest_columns_of_a_video(h264):
    rows = [about for _, about in read_views(h264, ViewPolicy.parse("resize32"), Sampling())]
    assert [row["time_s"] for row in rows] == [0.16, 0.4, 0.64, 0.88, 1.16, 1.4, 1.64, 1.88]
    assert len({row["pixel_sha256"] for row in rows}) == 8
    assert {row["content_sha256"] for row in rows} == {hashlib.sha256(h264.read_bytes()).hexdigest()}
    expected = {"kind": "frame", "width": 160, "height": 96, "format": "mp4", "codec": "h264", "frame_rate": 25.0}
    expected |= {"bitrate": h264.stat().st_size * 8 / 2, "jpeg_quality": None, "has_exif": False}
    assert {name: rows[0].get(name) for name in expected} == expected
    assert set(rows[0]) <= set(MANIFEST.names)


def test_equal_pixels_have_an_equal_digest(photo, tmp_path):
    pixels = read_picture(photo).pixels
    for name in ("a.png", "b.bmp", "c.tiff"):
        Image.fromarray(pixels).save(tmp_path / name)
    digests = {one(tmp_path / name)[1]["pixel_sha256"] for name in ("a.png", "b.bmp", "c.tiff")}
    assert len(digests) == 1


def test_an_animation_is_read_as_frames(tmp_path):
    frames = [Image.new("RGB", (40, 30), (25 * n, 0, 0)) for n in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=200)
    rows = list(read_views(tmp_path / "a.gif", ViewPolicy.parse("resize32"), Sampling()))
    assert [(about["kind"], about["time_s"], about["format"]) for _, about in rows] == [
        ("frame", pytest.approx(0.2 * n), "GIF") for n in range(4)
    ]


def test_a_lying_suffix_is_read_by_content(h264, photo, tmp_path):
    (tmp_path / "film.jpg").write_bytes(h264.read_bytes())
    assert len(list(read_views(tmp_path / "film.jpg", ViewPolicy.parse("resize32"), Sampling()))) == 8
    (tmp_path / "photo.mp4").write_bytes(photo.read_bytes())
    assert one(tmp_path / "photo.mp4")[1]["format"] == "JPEG"


def test_refusals(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture\n")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in (
        ("empty.jpg", "empty"), ("text.jpg", "not media"), ("folder.jpg", "not media"), ("none.jpg", "missing")
    ):  # fmt: skip
        with pytest.raises(MediaError) as caught:
            one(tmp_path / name)
        assert caught.value.reason == reason
