"""Near-duplicates: what is planted is found, what only looks alike is not merged."""

import cv2
import numpy as np
import pytest

from components.dataset import Dataset
from components.errors import InputError
from components.media.pictures import perceptual_hash, read_picture, thumbnail
from components.preprocessing.duplicates import close_hashes, clusters, cropped_hashes, near_duplicates
from components.preprocessing.preprocess import preprocess


def jpeg_50(pixels):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)


def half(pixels):
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def cropped(left, top, right, bottom):
    def crop(pixels):
        height, width = pixels.shape[:2]
        return pixels[int(height * top) : height - int(height * bottom), int(width * left) : width - int(width * right)]

    return crop


def brighter(pixels):
    return np.clip(pixels * 1.2 + 10, 0, 255).astype(np.uint8)


def darker(pixels):
    return (pixels * 0.7).astype(np.uint8)


COPIES = {
    "jpeg 50": jpeg_50,
    "half": half,
    "5 % all around": cropped(0.025, 0.025, 0.025, 0.025),
    "5 % at each side": cropped(0.05, 0.05, 0.05, 0.05),
    "5 % at a corner": cropped(0.05, 0.05, 0, 0),
    "5 % at one side": cropped(0, 0, 0.05, 0),
    "brighter": brighter,
    "darker": darker,
}


def found(pictures: list[np.ndarray]) -> set[tuple[int, int]]:
    thumbnails = np.stack([thumbnail(np.ascontiguousarray(pixels)) for pixels in pictures])
    hashes = np.array([perceptual_hash(gray) for gray in thumbnails], dtype=np.uint64)
    left, right = near_duplicates(thumbnails, hashes, np.arange(len(pictures)))
    return set(zip(left.tolist(), right.tolist(), strict=True))


@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_of_scenes_are_found_and_nothing_else(data, kind):
    originals = [data.scene(seed) for seed in range(60)]
    pairs = found(originals + [COPIES[kind](pixels) for pixels in originals])
    planted = {(number, number + 60) for number in range(60)}
    assert len(pairs & planted) >= 0.95 * len(planted)
    assert pairs <= planted


def test_planted_copies_of_aligned_faces_are_found_and_no_two_faces_are_merged(shared):
    folders = (shared / "media" / "real" / "ffhq", shared / "media" / "fake" / "stylegan2")
    files = [file for folder in folders for file in sorted(folder.iterdir())[:40]]
    originals = [read_picture(file, 256).pixels for file in files]
    assert found(originals) == set()
    planted = {(number, number + 80) for number in range(80)}
    for kind, copy in COPIES.items():
        pairs = found(originals + [copy(pixels) for pixels in originals])
        assert len(pairs & planted) >= 0.95 * len(planted), kind
        assert pairs <= planted, kind


def test_the_hash_of_what_is_not_cropped_is_the_perceptual_hash(data):
    thumbnails = np.stack([thumbnail(data.scene(seed)) for seed in range(20)])
    expected = [perceptual_hash(gray) for gray in thumbnails]
    assert cropped_hashes(thumbnails)[0].tolist() == expected


@pytest.mark.parametrize("radius", [0, 4, 10, 11])
def test_the_search_of_hashes_misses_nothing(radius):
    random = np.random.default_rng(radius)
    table = random.integers(0, 2**64, 400, dtype=np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in random.permutation(64)[: number % 14]) for number in range(400)], np.uint64
    )
    queries = np.concatenate([table ^ flips, random.integers(0, 2**64, 400, dtype=np.uint64)])
    near = np.bitwise_count(queries[:, None] ^ table) <= radius
    expected = set(zip(*np.nonzero(near), strict=True))
    assert len(expected) > 20
    assert {pair for part in close_hashes(queries, table, radius) for pair in zip(*part, strict=True)} == expected


def test_many_equal_hashes_are_searched_in_parts(monkeypatch):
    monkeypatch.setattr("components.preprocessing.duplicates.FOUND_AT_ONCE", 50)
    same = np.full(30, 7, dtype=np.uint64)
    pairs = {pair for part in close_hashes(same, same, 0) for pair in zip(*part, strict=True)}
    assert len(pairs) == 900


def test_clusters_join_what_is_linked_directly_or_not():
    component = clusters(5, (np.array([0]), np.array([1])), (np.array([1]), np.array([4])))
    assert component[0] == component[1] == component[4]
    assert len(set(component)) == 3


def test_near_duplicates_of_one_label_share_a_group_across_pictures_and_videos(data, tmp_path):
    original = data.scene(1)
    rows = [
        data.row("original.png", 0, original),
        data.row("again.jpg", 0, jpeg_50(original)),
        data.row("film.mp4", 0, brighter(original), kind="frame", time_s=0.0),
        data.row("film.mp4", 0, data.scene(2), kind="frame", time_s=1.0),
        data.row("other.png", 0, data.scene(3)),
    ]
    preprocess([data.frames([*data.media(), *rows])], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    group = dict(zip(dataset.column("path"), dataset.column("group"), strict=True))
    assert group["original.png"] == group["again.jpg"] == group["film.mp4"] != group["other.png"]
    assert dataset.card["rejected"] == 0


def test_near_duplicates_with_both_labels_are_dropped_as_a_conflict(data, tmp_path):
    rows = [
        data.row("true.png", 0, data.scene(1)),
        data.row("film.mp4", 1, jpeg_50(data.scene(1)), kind="frame", time_s=0.0),
        data.row("film.mp4", 1, data.scene(2), kind="frame", time_s=1.0),
    ]
    preprocess([data.frames([*data.media(), *rows])], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    rejections = {entry["path"]: (entry["reason"], entry["detail"]) for entry in dataset.rejections.to_pylist()}
    assert rejections == {
        "film.mp4": ("label conflict", "also labelled real as true.png"),
        "true.png": ("label conflict", "also labelled fake as film.mp4"),
    }


def test_black_frames_neither_tie_videos_nor_make_conflicts(data, tmp_path):
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    rows = []
    for number in range(4):
        rows.append(data.row(f"film{number}.mp4", number % 2, black, kind="frame", time_s=0.0))
        rows.append(data.row(f"film{number}.mp4", number % 2, data.scene(number), kind="frame", time_s=1.0))
    card = preprocess([data.frames([*data.media(), *rows, data.row("black.png", 0, black)])], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert card["dropped"] == {"blank": 5}
    assert [entry["path"] for entry in dataset.rejections.to_pylist()] == ["black.png"]
    films = {g for g, path in zip(dataset.column("group"), dataset.column("path"), strict=True) if "film" in path}
    assert len(films) == 4


def test_a_given_split_that_leaks_near_duplicates_is_refused_naming_the_pair(data, tmp_path):
    rows = [
        (views, entry | {"split": ("train", "val", "test")[n % 6 // 2]})
        for n, (views, entry) in enumerate(data.media(30))
    ]
    rows += [
        data.row("whole.png", 0, data.scene(1), split="test"),
        data.row("half.png", 0, half(data.scene(1)), split="train"),
    ]
    with pytest.raises(InputError, match=r"leaks: 1 files .* half.png \(train\) with whole.png \(test\)"):
        preprocess([data.frames(rows)], tmp_path / "out")


def test_frames_without_thumbnails_are_refused(data, tmp_path):
    rows = [(views, entry | {"thumbnail": None}) for views, entry in data.media()]
    with pytest.raises(InputError, match="26 rows have no thumbnail; extract the media again"):
        preprocess([data.frames(rows)], tmp_path / "out")
