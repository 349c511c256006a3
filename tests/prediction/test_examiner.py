"""One detector, asked about pictures, clips and broken files; the same answers from every thread and engine."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from components import known_media
from components.media.ffmpeg import ffmpeg_executable
from components.prediction.examiner import DELIVERIES, Examiner


@pytest.fixture(scope="module")
def examiner(brightness_detector):
    about = {"model": "ai-vs-real", "version": "4", "alias": "champion"}
    with Examiner(brightness_detector, version=about, limits=["Not for X-rays."]) as loaded:
        yield loaded


def test_pictures_get_the_verdict_of_their_brightness_and_a_receipt(examiner, asked_media):
    dark, bright = (examiner.examine(asked_media / f"{name}.png") for name in ("dark", "bright"))
    assert (dark.verdict, bright.verdict) == ("real", "fake")
    assert dark.probability < 0.05 < 0.95 < bright.probability
    assert (dark.kind, dark.frames, dark.reason, dark.error) == ("picture", 1, "", None)
    assert [one.name for one in dark.deliveries] == list(DELIVERIES)
    assert all(one.verdict == "real" for one in dark.deliveries)
    assert {
        "model": "ai-vs-real",
        "version": "4",
        "alias": "champion",
        "commit": "c0ffee",
        "data_version": "da7a",
        "run": "r1",
    }.items() <= (dark.receipt.items())
    assert dark.limits == ("Not for X-rays.",)
    json.dumps(dark.to_json())


def test_the_delivery_test_acts_on_the_file_and_not_on_its_view(examiner, tmp_path):
    # Bright all around a dark middle: the picture is bright, its middle is not.
    pixels = np.full((80, 80, 3), 230, np.uint8)
    pixels[8:72, 8:72] = 90
    pixels[20:60, 20:60] = 250
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    answer = examiner.examine(tmp_path / "frame.png")
    cut = next(one for one in answer.deliveries if one.name == "cut:0.8")
    kept = pixels[8:72, 8:72].mean()
    assert cut.probability == pytest.approx(1 / (1 + np.exp(-0.06 * (kept - 130))), abs=0.02)
    assert abs(cut.probability - answer.probability) > 0.05


def test_a_clip_is_answered_with_a_timeline_and_its_suspicious_part(examiner, asked_media):
    answer = examiner.examine(asked_media / "clip.mp4")
    assert (answer.kind, answer.frames, answer.verdict) == ("clip", 4, "unsure")
    assert answer.receipt["sampling"] == "even:4"  # too few keyframes to decide by
    assert [moment.probability > 0.5 for moment in answer.timeline] == [False, False, True, True]
    (segment,) = answer.segments
    assert 0.8 <= segment.start_s <= 1.2 < segment.end_s


@pytest.mark.parametrize(("brightness", "sampling"), [("220", "keyframes:16"), ("if(mod(N,2),90,250)", "even:4")])
def test_keyframes_decide_alone_only_where_other_frames_would_hardly_change_it(
    brightness, sampling, examiner, tmp_path
):
    scene = f"color=s=64x64:r=10:d=1,geq=lum='{brightness}':cb=128:cr=128"
    command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", scene, "-c:v", "libx264", "-g", "1"]
    subprocess.run([*command, tmp_path / "clip.mp4"], check=True)
    assert examiner.examine(tmp_path / "clip.mp4").receipt["sampling"] == sampling


def test_limits_are_those_of_the_kind_of_file(brightness_detector, asked_media):
    limits = ["Not for X-rays.", "Not for videos yet: it was judged on only 3 real and 3 fake clips."]
    with Examiner(brightness_detector, limits=limits) as examiner:
        assert examiner.examine(asked_media / "dark.png").limits == ("Not for X-rays.",)
        assert examiner.examine(asked_media / "clip.mp4").limits == tuple(limits)


def test_a_video_that_is_too_long_is_not_read(brightness_detector, asked_media):
    with Examiner(brightness_detector, longest_s=1.0) as examiner:
        refused = examiner.examine(asked_media / "clip.mp4")
        assert refused.verdict is None
        assert refused.error == "too long: a video of 2 s; at most 1 s are accepted"
        assert examiner.examine(asked_media / "dark.png").verdict == "real"


def test_a_file_whose_decoder_is_killed_is_read_once_more(brightness_detector, asked_media):
    path = asked_media / "dark.png"
    with Examiner(brightness_detector) as examiner, ThreadPoolExecutor(1) as other:
        expected = examiner.examine(path)
        decoder = examiner._workers._processes[0]._process.pid
        os.kill(decoder, signal.SIGSTOP)  # so that it is killed while it reads
        answer = other.submit(examiner.examine, path)
        time.sleep(0.3)
        os.kill(decoder, signal.SIGKILL)
        assert (answer.result().error, answer.result().probability) == (None, expected.probability)


def test_what_cannot_be_read_is_an_answer_too(examiner, asked_media, tmp_path):
    broken = examiner.examine(asked_media / "broken.jpg", name="theirs.jpg")
    assert (broken.path, broken.verdict, broken.probability) == ("theirs.jpg", None, None)
    assert broken.error
    assert examiner.examine(tmp_path / "absent.jpg").error.startswith("missing")


def test_threads_get_the_same_answers(examiner, asked_media):
    names = [asked_media / f"{name}.png" for name in ("dark", "bright", "gray")] * 4
    alone = [examiner.examine(name) for name in names[:3]] * 4
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(examiner.examine, names))
    assert [answer.probability for answer in together] == [answer.probability for answer in alone]


def test_keras_gives_the_same_answers(brightness_detector, examiner, asked_media):
    with Examiner(brightness_detector, engine="keras") as reference:
        for name in ("dark.png", "gray.png", "clip.mp4"):
            ours, theirs = (one.examine(asked_media / name) for one in (examiner, reference))
            assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)
            assert ours.verdict == theirs.verdict


def test_provenance_stands_beside_the_verdict_and_changes_nothing_in_it(examiner, asked_media):
    generated = examiner.examine(asked_media / "generated.png")
    (entry,) = generated.provenance["metadata"]
    assert (entry["where"], entry["field"], entry["suggests"]) == ("PNG text", "parameters", "ai")
    assert generated.provenance["c2pa"] is None
    clip = examiner.examine(asked_media / "clip.mp4")
    assert {"where": "container", "field": "comment", "value": "Made with AI", "suggests": "ai"} in (
        clip.provenance["metadata"]
    )


def test_exif_and_xmp_are_read(examiner, tmp_path):
    image = Image.new("RGB", (64, 64), "white")
    exif = image.getexif()
    exif[0x010F], exif[0x0110] = "FUJIFILM", "X-T2"
    xmp = b'<rdf:Description Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/'
    image.save(tmp_path / "a.jpg", exif=exif, xmp=xmp + b'trainedAlgorithmicMedia"/>')
    found = {
        (entry["where"], entry["field"]): entry["suggests"]
        for entry in examiner.examine(tmp_path / "a.jpg").provenance["metadata"]
    }
    assert found == {("EXIF", "Make"): "camera", ("EXIF", "Model"): "camera", ("XMP", "DigitalSourceType"): "ai"}


def test_a_heat_map_covers_the_picture(examiner, asked_media):
    answer = examiner.examine(asked_media / "bright.png", explain=True)
    assert answer.heat_map.startswith("data:image/png;base64,")
    clip = examiner.examine(asked_media / "clip.mp4", explain=True)
    assert clip.heat_map_time_s > 0.9  # of a white frame


def test_media_of_the_training_are_recognised(brightness_detector, tmp_path, asked_media):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.media.pictures import perceptual_hash, thumbnail

    random = np.random.default_rng(3)
    pixels = np.kron(random.integers(0, 256, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    columns = {name: [value] for name, value in (("path", "a.png"), ("label", "fake"), ("source", "sd"))}
    hashed = pa.array([perceptual_hash(thumbnail(pixels))], pa.uint64())
    pq.write_table(pa.table({"perceptual_hash": hashed, **columns, "split": ["train"]}), tmp_path / known_media.FILE)
    known = known_media.KnownMedia(tmp_path)
    Image.fromarray(pixels).save(tmp_path / "again.jpg", quality=60)
    with Examiner(brightness_detector) as examiner:
        examiner._known = known
        (nearest,) = examiner.examine(tmp_path / "again.jpg").nearest
        assert nearest == dataclasses.asdict(known_media.Known("a.png", "fake", "sd", "train", nearest["distance"]))
        assert nearest["distance"] <= known_media.SAME
        assert examiner.examine(asked_media / "dark.png").nearest == []  # a flat picture is like any other
