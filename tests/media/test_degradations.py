import re

import numpy as np
import pytest

from components.errors import InputError
from components.media import degradation_names, degradations


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    smooth = np.kron(random.integers(0, 256, (3, 8, 8, 3)), np.ones((1, 8, 8, 1)))
    return np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def change(name, pictures):
    return np.abs(degradations.apply(name, pictures).astype(int) - pictures).mean()


@pytest.mark.parametrize("name", degradation_names.SINGLE)
def test_each_one_keeps_the_shape_changes_the_pixels_and_repeats_itself(name, pictures):
    before = pictures.copy()
    degraded = degradations.apply(name, pictures)
    assert (degraded.shape, degraded.dtype) == (pictures.shape, np.uint8)
    assert 0.3 < np.abs(degraded.astype(int) - pictures).mean() < 60
    assert np.array_equal(degraded, degradations.apply(name, pictures))
    assert np.array_equal(pictures, before)


@pytest.mark.parametrize("name", degradation_names.TIERS)
def test_a_tier_changes_the_pictures_and_repeats_itself(name, pictures):
    before = pictures.copy()
    degraded = degradations.apply(name, pictures)
    assert degraded.dtype == np.uint8
    assert not np.array_equal(degraded, pictures)
    assert np.array_equal(degraded, degradations.apply(name, pictures))
    assert np.array_equal(pictures, before)


PAIRS = "jpeg:90<30 webp:90<30 scale:0.5<0.25 blur:0.5<2 noise:2<8 h264:20<40 crop:0.95<0.6"


@pytest.mark.parametrize("pair", PAIRS.split())
def test_more_is_more(pair, pictures):
    kind, milder, harder = re.fullmatch(r"(\w+):(.+)<(.+)", pair).groups()
    assert change(f"{kind}:{milder}", pictures) < change(f"{kind}:{harder}", pictures)


@pytest.mark.parametrize("name", ["jpeg:50", "noise:5", "crop:0.8"])
def test_a_picture_is_degraded_alike_in_any_company(name, pictures):
    assert np.array_equal(degradations.apply(name, pictures)[1], degradations.apply(name, pictures[1:2])[0])


def test_video_compression_takes_odd_sides_and_is_not_for_pictures(pictures):
    assert degradations.apply("h264:28", pictures[:, :51, :53]).shape == (3, 51, 53, 3)
    assert not degradations.applies("h264:28", "picture")
    assert degradations.applies("h264:28", "clip")


def test_draws_are_all_known_and_repeat(pictures):
    drawn = [
        degradations.draw(np.random.default_rng(seed), kind) for seed in range(40) for kind in ("picture", "frame")
    ]
    assert drawn[:2] == [degradations.draw(np.random.default_rng(0), kind) for kind in ("picture", "frame")]
    assert {name.partition(":")[0] for name in drawn} == set(degradations.RANGES)
    for name in drawn[:12]:
        degradations.apply(name, pictures[:1])


@pytest.mark.parametrize(
    "name", ["jpeg", "jpeg:", "jpeg:x", "jpeg:-3", "fog:3", "jpeg:nan", "fit:100+fog:3", "jpeg:50:nearest"]
)
def test_an_unknown_name_is_refused_in_one_line(name, pictures):
    with pytest.raises(InputError, match="is not known; give one such as web, hard"):
        degradations.apply(name, pictures)


def test_a_chain_acts_on_a_whole_file_and_repeats_itself(pictures):
    picture = np.kron(pictures[0], np.ones((12, 9, 1), np.uint8))
    for name in (*degradations.TIERS, *degradations.CHAINS):
        delivered = degradations.apply(name, picture)
        assert delivered.ndim == 3
        assert delivered.dtype == np.uint8
        assert np.array_equal(delivered, degradations.apply(name, picture))
    assert degradations.apply("fit:96+jpeg:60", picture).shape == (96, 72, 3)
    assert degradations.apply("thumbnail", picture).shape[0] in (192, 384)


def test_what_judges_is_held_out_from_training():
    def drawn(held_out):
        random = np.random.default_rng(0)
        names = [
            degradations.resolve(tier, random, kind, held_out=held_out)
            for tier in degradations.TIERS
            for kind in ("picture", "clip")
            for _ in range(100)
        ]
        assert {chain for chain, _ in names} == set(degradations.CHAINS)
        steps = {step for _, name in names for step in name.split("+")}
        return {step for step in steps if step.split(":")[0] in ("jpeg", "webp", "h264", "fit")}

    training, judging = drawn(False), drawn(True)
    assert len(training) > 50
    assert len(judging) > 50
    assert not training & judging


def test_a_chain_of_video_keeps_the_frames_together(pictures):
    frames = np.kron(pictures, np.ones((1, 4, 3, 1), np.uint8))
    assert degradations.apply("second-hand", frames).shape[0] == len(frames)
    assert not degradations.applies("thumbnail", "clip")
    assert degradations.applies("hard", "clip")


def test_steps_are_described_in_order():
    assert degradation_names.describe("fit:1440:lanczos+jpeg:62") == (
        "long side at most 1440 pixels, then JPEG at quality 62"
    )
