"""Every file of a dataset has a record: accepted, or rejected and why."""

from components.preprocessing.preprocess import preprocess
from components.records import open_records


def test_each_file_is_recorded_once_however_often_the_stage_runs(home, data, tmp_path):
    rows = [*data.media(), data.row("copy.png", 0, data.picture(2), content="002.png")]
    frames = data.frames(rows, [("broken.jpg", "truncated"), ("notes.txt", "not media")])
    card = preprocess([frames], tmp_path / "dataset")
    preprocess([frames], tmp_path / "dataset")
    with open_records() as records:
        (dataset,) = records.find("datasets")
        media = records.find("media", {"dataset": card["digest"]})
        accepted = records.find("media", {"status": "accepted"})
    assert dataset["_id"] == card["digest"]
    assert dataset["counts"] == card["counts"]
    assert len(media) == card["counts"]["found"] == 23
    assert len(accepted) == card["counts"]["files"] == 20
    reasons = {one["path"]: one["reason"] for one in media if one["status"] == "rejected"}
    assert reasons.keys() == {"broken.jpg", "notes.txt"} | (reasons.keys() & {"copy.png", "002.png"})
    assert (reasons["broken.jpg"], reasons["notes.txt"]) == ("truncated", "not media")
    clip = next(one for one in accepted if one["path"].endswith(".mp4"))
    assert (clip["rows"], clip["kind"], clip["label"]) == (2, "frame", "real" if clip["path"] < "001" else "fake")
    assert {one["split"] for one in accepted} == {"train", "validation", "test"}
