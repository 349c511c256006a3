"""The stage as a whole, on small frames datasets."""

import numpy as np
import pytest

from components.dataset import SPLITS, Dataset
from components.errors import InputError
from components.preprocessing.preprocess import preprocess


def files_by_split(dataset: Dataset) -> dict[str, set[str]]:
    return {name: set(dataset.column("path")[dataset.rows(name)]) for name in SPLITS}


def test_shards_in_any_number_and_order_give_the_same_dataset(data, tmp_path):
    rows = data.media(40)
    whole = preprocess([data.frames(rows)], tmp_path / "whole")
    shards = [data.frames(rows[number::3]) for number in range(3)]
    joined = preprocess(shards[::-1], tmp_path / "joined")
    assert joined["digest"] == whole["digest"]
    a, b = Dataset(tmp_path / "whole"), Dataset(tmp_path / "joined")
    assert a.manifest.equals(b.manifest)
    assert (a.views(np.arange(len(a))) == b.views(np.arange(len(b)))).all()
    assert a.card == b.card


def test_rows_keep_their_pixels_and_are_ordered_by_split(data, tmp_path):
    rows = data.media(24)
    preprocess([data.frames(rows)], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    pixels = {entry["pixel_sha256"]: views for views, entry in rows}
    assert len(dataset) == len(rows)
    for number, key in enumerate(dataset.column("pixel_sha256")):
        assert (dataset.views([number])[0] == pixels[key]).all()
    ranks = [SPLITS.index(name) for name in dataset.column("split")]
    assert ranks == sorted(ranks)


def test_policies_and_note_are_carried_over(data, tmp_path):
    card = preprocess([data.frames(data.media(), note="made by code")], tmp_path / "out")
    assert (card["view"], card["sampling"], card["delivery"]) == ("resize32", "even:2", "as-is")
    assert card["note"] == "made by code"


def test_frames_of_different_views_are_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"differ in view: resize32 in .*resize64 in"):
        preprocess([data.frames(data.media()), data.frames(data.media(), view="resize64")], tmp_path / "out")


def test_exact_duplicates_are_dropped_and_named(data, tmp_path):
    copies = [
        data.row("copy.png", 0, data.picture(2)),
        data.row("same_file.png", 1, data.picture(3), content="003.png"),
    ]
    preprocess([data.frames(data.media() + copies, [("broken.jpg", "truncated")])], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    rejections = {entry["path"]: (entry["reason"], entry["detail"]) for entry in dataset.rejections.to_pylist()}
    assert rejections == {
        "broken.jpg": ("truncated", "as found"),
        "copy.png": ("exact duplicate", "same pixels as 002.png"),
        "same_file.png": ("exact duplicate", "same pixels as 003.png"),
    }
    assert "copy.png" not in dataset.column("path")


def test_every_file_found_is_counted_once(data, tmp_path):
    scene = data.scene(1)
    rows = [
        data.row("copy.png", 0, data.picture(2)),
        data.row("liar.png", 1, data.picture(4)),
        data.row("black.png", 0, np.zeros((32, 32, 3), dtype=np.uint8)),
        data.row("original.png", 0, scene),
        data.row("darker.png", 0, (scene * 0.8).astype(np.uint8)),
    ]
    shards = [
        data.frames(data.media(40), [("broken.jpg", "truncated"), ("000.mp4", "truncated")]),  # the clip's rest alone
        data.frames(rows, [("empty.jpg", "empty")]),
    ]
    card = preprocess(shards, tmp_path / "out", balance="undersample")
    counts = card["counts"]
    undersampled = counts["rejected"].pop("undersampled")
    assert counts["rejected"] == {"blank": 1, "empty": 1, "label conflict": 2, "truncated": 1}
    assert (counts["duplicates_dropped"], counts["near_duplicates_kept"]) == (1, 2)
    assert counts["found"] == 40 + 5 + 2 == counts["files"] + 1 + 5 + undersampled
    assert counts["files"] == len(set(Dataset(tmp_path / "out").column("path")))
    assert counts["files"] == sum(split["files"] for split in counts["splits"].values())


def test_same_pixels_with_both_labels_are_a_conflict(data, tmp_path):
    preprocess([data.frames([*data.media(), data.row("liar.png", 1, data.picture(2))])], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    rejections = {entry["path"]: entry["reason"] for entry in dataset.rejections.to_pylist()}
    assert rejections == {"002.png": "label conflict", "liar.png": "label conflict"}
    assert not {"002.png", "liar.png"} & set(dataset.column("path"))


def test_a_frame_shared_by_two_videos_keeps_them_together(data, tmp_path):
    shared = data.picture(5000)
    rows = [
        data.row("a.mp4", 0, shared, kind="frame", time_s=0.0),
        data.row("a.mp4", 0, data.picture(5006), kind="frame", time_s=1.0),
    ]
    rows += [
        data.row("b.mp4", 0, shared, kind="frame", time_s=0.0),
        data.row("b.mp4", 0, data.picture(5007), kind="frame", time_s=1.0),
    ]
    preprocess([data.frames([*data.media(), *rows])], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    group = dict(zip(dataset.column("path"), dataset.column("group"), strict=True))
    assert group["a.mp4"] == group["b.mp4"]
    assert (dataset.column("path") == "b.mp4").sum() == 1  # its shared frame went, the other stays


def test_no_group_crosses_a_split(data, tmp_path):
    rows = [(views, entry | {"group": f"person{number // 6}"}) for number, (views, entry) in enumerate(data.media(60))]
    preprocess([data.frames(rows)], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    splits = {}
    for group, split in zip(dataset.column("group"), dataset.column("split"), strict=True):
        splits.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) == 13


def test_a_given_split_is_honoured(data, tmp_path):
    names = ("train", "val", "test")
    rows = [(views, entry | {"split": names[int(entry["path"][:3]) // 2 % 3]}) for views, entry in data.media(30)]
    preprocess([data.frames(rows)], tmp_path / "out")
    expected = {name: {e["path"] for _, e in rows if e["split"] == g} for name, g in zip(SPLITS, names, strict=True)}
    assert files_by_split(Dataset(tmp_path / "out")) == expected


def test_validation_is_cut_from_train_where_only_train_and_test_are_given(data, tmp_path):
    rows = [
        (views, entry | {"split": "test" if int(entry["path"][:3]) < 10 else "train"})
        for views, entry in data.media(60)
    ]
    preprocess([data.frames(rows)], tmp_path / "out")
    found = files_by_split(Dataset(tmp_path / "out"))
    assert found["test"] == {entry["path"] for _, entry in rows if entry["split"] == "test"}
    assert 7 <= len(found["validation"]) <= 11


def test_a_given_split_that_leaks_is_refused_naming_the_pair(data, tmp_path):
    rows = [(views, entry | {"split": SPLITS[int(entry["path"][:3]) // 2 % 3]}) for views, entry in data.media(30)]
    rows.append(data.row("again.png", 0, data.picture(2), split="train"))
    with pytest.raises(InputError, match=r"again.png \(train\) with 002.png \(validation\).*--repair-split"):
        preprocess([data.frames(rows)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    preprocess([data.frames(rows)], tmp_path / "out", repair_split=True)
    dataset = Dataset(tmp_path / "out")
    assert "002.png" in files_by_split(dataset)["validation"]
    assert dataset.rejections.to_pylist()[0]["reason"] == "leaks into validation"


def test_sources_held_out_stand_in_the_test_alone(data, tmp_path):
    rows = [data.row(f"new{number}.png", 1, data.picture(900 + number), source="newest") for number in range(6)]
    preprocess([data.frames(data.media(40) + rows)], tmp_path / "out", hold_out="source=newest")
    dataset = Dataset(tmp_path / "out")
    assert set(dataset.column("split")[dataset.column("source") == "newest"]) == {"test"}
    assert set(dataset.column("split")[dataset.column("source") == "generator"]) == set(SPLITS)
    with pytest.raises(InputError, match="'older', which has no media; there are: camera, generator, newest"):
        preprocess([data.frames(data.media(40) + rows)], tmp_path / "out", hold_out="source=older")


def test_weights_balance_the_labels_of_train(data, tmp_path):
    extra = [data.row(f"more{number}.png", 1, data.picture(500 + number)) for number in range(30)]
    preprocess([data.frames(data.media() + extra)], tmp_path / "out", balance="weights")
    dataset = Dataset(tmp_path / "out")
    for split in ("train", "validation"):
        rows = dataset.rows(split)
        weight, label = dataset.column("weight")[rows], dataset.column("label")[rows]
        assert weight[label == 0].sum() == pytest.approx(weight[label == 1].sum(), rel=1e-5)
        assert weight.mean() == pytest.approx(1, rel=1e-5)
    assert (dataset.column("weight")[dataset.rows("test")] == 1).all()


def test_undersampling_equals_the_labels_of_train_alone(data, tmp_path):
    extra = [data.row(f"more{number}.png", 1, data.picture(500 + number)) for number in range(30)]
    card = preprocess([data.frames(data.media() + extra)], tmp_path / "out", balance="undersample")
    label = Dataset(tmp_path / "out").column("label")
    splits = Dataset(tmp_path / "out").column("split")
    amounts = np.bincount(label[splits == "train"])
    assert amounts[0] == amounts[1]
    assert np.bincount(label[splits == "test"])[1] > np.bincount(label[splits == "test"])[0]
    assert card["dropped"]["undersampled"] > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(balance="evenly"), "balance='evenly' is unknown; use one of undersample, weights, none"),
        (dict(train=0.9, validation=0.2), "train=0.9 and validation=0.2 leave no test split"),
        (dict(hold_out="sdxl"), "hold_out='sdxl' is not understood; write source=NAME"),
        (dict(audit="shrug"), "audit='shrug' is unknown; use warn or fail"),
    ],
)
def test_arguments_that_are_not_understood(data, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        preprocess([data.frames(data.media())], tmp_path / "out", **arguments)


def test_fewer_items_than_the_splits_need(data, tmp_path):
    rows = [data.row(f"{number}.png", number % 2, data.picture(number)) for number in range(5)]
    with pytest.raises(InputError, match="label fake has 2 groups of media, none can go to"):
        preprocess([data.frames(rows)], tmp_path / "out")


def test_one_label_only(data, tmp_path):
    with pytest.raises(InputError, match="no usable media are labelled fake: 0 rows"):
        preprocess([data.frames([entry for entry in data.media() if entry[1]["label"] == 0])], tmp_path / "out")


def test_nothing_at_all(data, tmp_path):
    with pytest.raises(InputError, match="no frames datasets were given"):
        preprocess([], tmp_path / "out")
    with pytest.raises(InputError, match="the frames datasets are empty: 0 rows"):
        preprocess([data.frames([], [("broken.jpg", "truncated")])], tmp_path / "out")


def test_the_report_names_what_was_left_out(data, tmp_path):
    preprocess(
        [
            data.frames(
                [*data.media(), data.row("<b>copy.png", 0, data.picture(2))],
                [("broken.jpg", "truncated")],
                note="made by code",
            )
        ],
        tmp_path / "out",
        report=tmp_path / "pages" / "report.html",
    )
    content = (tmp_path / "pages" / "report.html").read_text()
    assert "broken.jpg" in content
    assert "&lt;b&gt;copy.png" in content
    assert "made by code" in content
    assert 'src="http' not in content
