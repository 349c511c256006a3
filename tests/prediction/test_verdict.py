import json
import subprocess

import numpy as np
import pytest
from brightness import write_detector
from PIL import Image

from components.errors import InputError
from components.media.ffmpeg import ffmpeg_executable
from components.prediction.verdict import check, check_media

SIZE = 48
BAND = {"low": 0.2, "high": 0.8, "false_positive_rate": 0.05, "false_negative_rate": 0.05}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Sees brightness alone: 130 is undecided, 200 fake, 60 real."""
    card = {"view": f"resize{SIZE}", "sampling": "even:4", "abstention": BAND}
    return write_detector(tmp_path_factory.mktemp("models") / "detector", size=SIZE, card=card)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    place = tmp_path_factory.mktemp("media")
    for name, level in (("dark", 60), ("bright", 200), ("gray", 135)):
        Image.fromarray(np.full((60, 80, 3), level, np.uint8)).save(place / f"{name}.png")
    # The first half black, the second white.
    source = "color=black:s=64x64:r=8:d=1[a];color=white:s=64x64:r=8:d=1[b];[a][b]concat"
    command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
    subprocess.run([*command, place / "clip.mp4"], check=True)
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return place


def ask(detector, *paths, **options):
    return list(check(paths, detector, **options))


def test_pictures_get_the_verdict_of_their_brightness(detector, media):
    dark, bright = ask(detector, media / "dark.png", media / "bright.png", version="4")
    assert (dark["verdict"], bright["verdict"]) == ("real", "fake")
    assert dark["probability"] < 0.05 < 0.95 < bright["probability"]
    assert (dark["kind"], dark["frames"], dark["model_version"], dark["reason"]) == ("picture", 1, "4", "")
    assert len(dark["model_digest"]) == 64


def test_inside_the_band_the_answer_is_inconclusive_and_says_why(detector, media):
    (answer,) = ask(detector, media / "gray.png")
    assert answer["verdict"] == "inconclusive"
    assert answer["reason"].startswith("leans to fake at 0.57, but only from 0.80 on are at most 5 of 100 reals")


def test_a_clip_is_answered_as_one_from_all_its_frames(detector, media):
    (answer,) = ask(detector, media / "clip.mp4")
    assert (answer["kind"], answer["frames"]) == ("clip", 4)
    assert 0.3 < answer["probability"] < 0.7  # half of the frames say 0, half 1
    assert answer["verdict"] == "inconclusive"


def test_a_clip_uses_its_own_calibration(media, tmp_path):
    card = {"view": f"resize{SIZE}", "sampling": "even:4", "calibration": {"clip": {"above": 5.0}}}
    (answer,) = ask(write_detector(tmp_path / "detector", size=SIZE, card=card), media / "clip.mp4")
    assert answer["probability"] > 0.99


def test_bad_files_among_good_ones_are_answered_with_the_reason(detector, media):
    missing, broken, dark = ask(detector, media / "nothing.png", media / "broken.jpg", media / "dark.png")
    assert missing["error"].startswith("missing")
    assert broken["verdict"] is broken["probability"] is None
    assert broken["error"]
    assert "\n" not in broken["error"]
    assert (dark["verdict"], dark["error"]) == ("real", None)


def test_an_answer_that_hangs_on_the_delivery_is_inconclusive(tmp_path):
    # Fake by the bright rim alone, which a crop takes off.
    pixels = np.full((100, 100, 3), 250, np.uint8)
    pixels[10:90, 10:90] = 60
    Image.fromarray(pixels).save(tmp_path / "rim.png")
    detector = write_detector(tmp_path / "detector", centre=100.0, card={"view": "resize48"}, size=48)
    (plain,) = ask(detector, tmp_path / "rim.png")
    (tested,) = ask(detector, tmp_path / "rim.png", delivery_test=True)
    assert plain["verdict"] == "fake"
    assert tested["verdict"] == "inconclusive"
    assert tested["reason"].startswith("no longer fake when cropped to 0.8 of each side")
    assert tested["probability"] == plain["probability"]
    assert set(tested["delivered"]) == {"jpeg:75", "scale:0.5", "crop:0.8"}


def test_the_answer_is_what_training_would_have_seen(detector, media):
    from components.detector import Detector
    from components.media.videos import Sampling
    from components.media.view import ViewPolicy, read_views

    loaded = Detector(detector)
    views = [one for one, _ in read_views(media / "clip.mp4", ViewPolicy.parse("resize48"), Sampling.parse("even:4"))]
    (answer,) = ask(detector, media / "clip.mp4")
    assert answer["probability"] == loaded.clip_probability(loaded.logits(np.stack(views)))


def test_no_detector_is_one_clear_line(tmp_path, media):
    with pytest.raises(InputError, match="is not a detector"):
        ask(tmp_path, media / "dark.png")


def test_every_file_of_a_directory_is_written_as_a_line(detector, media, home, tmp_path):
    from components import registry

    version = registry.add_version("tiny", detector)
    registry.set_alias("tiny", "champion", version.version)
    check_media(media, "tiny", "", tmp_path / "verdicts")
    lines = [json.loads(line) for line in (tmp_path / "verdicts").read_text().splitlines()]
    assert [line["path"].rpartition("/")[2] for line in lines] == [
        "bright.png",
        "broken.jpg",
        "clip.mp4",
        "dark.png",
        "gray.png",
    ]
    assert {line["model_version"] for line in lines} == {version.version}


def test_without_a_champion_or_media_nothing_is_written(home, media, tmp_path):
    with pytest.raises(InputError, match="has no champion yet"):
        check_media(media, "nobody", "", tmp_path / "verdicts")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file"):
        check_media(tmp_path / "empty", "nobody", "1", tmp_path / "verdicts")
    assert not (tmp_path / "verdicts").exists()
