"""The pixels that are scored are those of training, bit for bit, and one file gets one number wherever it is asked."""

import json
import subprocess
import sys
import time

import mlflow.pyfunc
import numpy as np
import pillow_heif
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageCms

from components import registry
from components.dataset import Dataset
from components.detector import Detector
from components.extraction.extract import extract
from components.media.ffmpeg import ffmpeg_executable
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy
from components.media.workers import Workers
from components.prediction.examiner import Examiner, read_rows
from components.prediction.scoring import score_files
from components.serving.app import create_app
from components.serving.champion import fixed

SIZE = 64


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """A file of every kind that is decoded in a way of its own, in a labelled tree."""
    tree = tmp_path_factory.mktemp("fixtures")
    folder = tree / "real"
    folder.mkdir()
    (tree / "fake").mkdir()
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (10, 13, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((390, 300), Image.Resampling.BICUBIC)
    picture.save(folder / "plain.jpg", quality=85)
    picture.resize((1560, 1200)).save(folder / "large.jpg", quality=85)
    picture.save(folder / "plain.png")
    picture.save(folder / "plain.webp", quality=80)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif, icc_profile=ImageCms.ImageCmsProfile(
        ImageCms.createProfile("sRGB")).tobytes())  # fmt: skip
    sixteen = (np.asarray(picture.convert("L"), np.uint16) * 257).astype(np.uint16)
    Image.fromarray(sixteen).save(folder / "sixteen.png")
    alpha = picture.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(picture.size))
    alpha.save(folder / "alpha.png")
    pillow_heif.from_pillow(picture).save(folder / "plain.heic", quality=80)
    flat, turned = tree / "flat.mp4", folder / "turned.mp4"
    source = "testsrc2=s=160x96:r=8:d=2"
    command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", flat]
    subprocess.run(command, check=True)
    turn = [ffmpeg_executable(), "-v", "error", "-display_rotation", "90", "-i", flat, "-c", "copy", turned]
    subprocess.run(turn, check=True)
    flat.unlink()
    picture.rotate(180).save(tree / "fake" / "other.png")
    return tree


@pytest.mark.parametrize(
    ("view", "delivery", "tiers"),
    [
        (f"resize{SIZE}", "as-is", "clean"),
        (f"crops{SIZE}x3", "as-is", "clean,web,hard"),
        (f"both{SIZE}x2", "common:256", "clean"),
    ],
)
def test_the_scored_pixels_are_those_of_training(fixtures, tmp_path, view, delivery, tiers):
    extract(str(fixtures), tmp_path / "frames", sampling="even:3", view=view, delivery=delivery, tiers=tiers)
    frames = Dataset(tmp_path / "frames")
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(frames.column("path")):
        rows_of.setdefault(path, []).append(row)
    assert len(rows_of) == 11
    policies = ViewPolicy.parse(view), Sampling.parse("even:3"), Delivery.parse(delivery)
    with Workers(1) as workers:
        for path, rows in rows_of.items():
            read = workers.read(read_rows, fixtures / path, *policies, ("clean",), "," in tiers)
            scored = np.stack([views for views, _ in read])
            assert np.array_equal(scored, frames.views(rows)), path


def test_one_file_gets_one_number_from_every_door(registry_home, brightness_detector, asked_media, tmp_path):
    paths = [asked_media / name for name in ("bright.png", "gray.png", "clip.mp4")]
    with Examiner(brightness_detector) as examiner:
        asked = [examiner.examine(path).probability for path in paths]
    command = [sys.executable, "-m", "pipelines.commands.main", "check", *paths, "--model", brightness_detector]
    by_command = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert [answer["probability"] for answer in by_command["answers"]] == asked
    score_files(paths, brightness_detector, tmp_path / "shard.jsonl")
    by_pipeline = [json.loads(line) for line in (tmp_path / "shard.jsonl").read_text().splitlines()]
    assert [answer["probability"] for answer in by_pipeline] == asked
    champion = fixed(str(brightness_detector), "ai-vs-real", lambda selected: Examiner(selected.directory))
    with TestClient(create_app(champion, hosts=["testserver"])) as client:
        while champion.served is None:
            assert not champion.failures, champion.error
            time.sleep(0.02)
        uploads = [client.post("/api/verdicts", files={"file": path.read_bytes()}) for path in paths]
    assert [answer.json()["probability"] for answer in uploads] == asked
    champion.served.examiner.close()
    version = registry.add_version("ai-vs-real", brightness_detector)
    registered = mlflow.pyfunc.load_model(version.source).predict([path.read_bytes() for path in paths])
    assert list(registered["probability"]) == asked
    reference = Detector(brightness_detector)
    pixels = ViewPolicy.parse(reference.card["view"]).views(np.asarray(Image.open(paths[0])))
    assert reference.probabilities(pixels[None])[0] == pytest.approx(asked[0], abs=1e-6)
