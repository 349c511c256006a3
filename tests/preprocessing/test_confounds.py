"""The confound audit: it sees planted shortcuts, names them, and sees them gone after the common delivery."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from components.dataset import Dataset
from components.errors import InputError
from components.extraction.extract import extract
from components.preprocessing.confounds import AuditPolicy, audit, cross_validated_auc, roc_auc
from components.preprocessing.preprocess import preprocess


def test_one_population_delivered_in_two_ways_is_seen_as_it_came_and_fair_after_the_common_delivery(data, tmp_path):
    for number in range(120):
        scene = Image.fromarray(data.scene(number, 640, fall=1.6))
        for label, side, options in (("real", 640, dict(quality=92)), ("fake", 448, dict(quality=70))):
            path = tmp_path / "media" / label / f"{number:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            scene.resize((side, side), Image.Resampling.LANCZOS).save(path, **options)
    found = {}
    for delivery in ("as-is", "common"):
        extract(str(tmp_path / "media"), tmp_path / delivery, view="crops256x1", delivery=delivery)
        dataset = Dataset(tmp_path / delivery)
        # Both versions of a picture stand in one fold: only how they were delivered separates them.
        group = pa.array([Path(path).stem for path in dataset.column("path")])
        manifest = dataset.manifest.set_column(dataset.manifest.column_names.index("group"), "group", group)
        found[delivery] = audit(
            manifest, np.concatenate(list(dataset.thumbnails())), dataset.views, dataset.card["delivery"], AuditPolicy()
        )
    before, after = ({test["name"]: test for test in result["tests"]} for result in found.values())
    assert before["metadata"]["auc"] >= 0.9
    assert before["traces"]["auc"] >= 0.9
    assert found["as-is"]["verdict"] == "warn"
    assert "width" in {offender["feature"] for offender in before["metadata"]["offenders"]}
    assert after["traces"]["auc"] <= 0.6
    assert all(after[name]["auc"] <= 0.62 for name in ("size", "blocks", "quality", "spectrum"))
    assert found["common"]["verdict"] == "pass"  # facts of the files as they came no longer count


def test_metadata_that_tell_the_label_are_named_with_what_is_typical(data, tmp_path):
    rows = [data.row(f"{n}.png", n % 2, data.scene(n), format=("JPEG", "PNG")[n % 2]) for n in range(60)]
    preprocess([data.frames(rows)], tmp_path / "out", report=tmp_path / "report.html")
    found = Dataset(tmp_path / "out").card["audit"]
    metadata = found["tests"][0]
    assert found["verdict"] == "warn"
    assert metadata["auc"] > 0.98
    assert metadata["offenders"] == [{"feature": "format", "auc": 1.0, "real": "JPEG (100 %)", "fake": "PNG (100 %)"}]
    assert "a fake outranks a real file 100 times in 100" in (tmp_path / "report.html").read_text()


def test_fail_refuses_the_dataset_naming_the_feature_and_what_to_do(data, tmp_path):
    rows = [data.row(f"{n}.png", n % 2, data.scene(n), format=("JPEG", "PNG")[n % 2]) for n in range(60)]
    with pytest.raises(InputError, match=r"metadata alone gives .* \(AUC 1.00: format\).* --delivery common"):
        preprocess([data.frames(rows)], tmp_path / "out", audit="fail")
    assert not (tmp_path / "out").exists()
    assert preprocess([data.frames(rows)], tmp_path / "out", audit="fail:metadata=1")["audit"]["verdict"] == "pass"
    delivered = data.frames(rows, delivery="common:320:jpeg")
    assert preprocess([delivered], tmp_path / "out", audit="fail")["audit"]["verdict"] == "pass"


def test_fair_media_pass(data, tmp_path):
    rows = [data.row(f"{number}.png", number % 2, data.scene(number)) for number in range(80)]
    found = preprocess([data.frames(rows)], tmp_path / "out")["audit"]
    assert found["verdict"] == "pass"
    assert found["text"] == "No shortcut was found: nothing but the picture gives the label away."
    assert found["files"] == 80


def test_a_few_media_say_nothing(data, tmp_path):
    found = preprocess([data.frames(data.media(16))], tmp_path / "out")["audit"]
    assert {test["auc"] for test in found["tests"]} == {None}
    assert found["verdict"] == "pass"
    assert found["tests"][0]["text"].startswith("Too few groups of media")


@pytest.mark.parametrize(
    ("text", "written"),
    [("warn", "warn"), ("fail", "fail"), ("fail:metadata=0.95", "fail:metadata=0.95"), ("warn:blocks=0.7", "warn")],
)
def test_policies_are_read_and_written(text, written):
    assert str(AuditPolicy.parse(text)) == written
    assert set(AuditPolicy.parse("fail:0.9").thresholds.values()) == {0.9}


@pytest.mark.parametrize("text", ["", "warn:", "fail:2", "fail:weather=0.9", "fail:metadata=x", "pass"])
def test_policies_that_are_not_understood(text):
    with pytest.raises(InputError, match="is unknown; use warn or fail"):
        AuditPolicy.parse(text)


def test_groups_are_not_learnt_by_heart():
    # The label is a coin for each group, and the feature tells the group: without grouped folds it would tell all.
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    label = np.repeat(np.arange(40) % 2, 10)
    folds = np.repeat(random.permutation(40) // 2 % 5, 10)
    feature = np.array([f"group {number}" for number in group])
    assert cross_validated_auc([feature], label, folds) < 0.6
    assert cross_validated_auc([label + random.normal(0, 0.1, 400)], label, folds) > 0.99


def test_auc_counts_ties_as_halves():
    assert roc_auc(np.array([0, 1, 0, 1]), np.array([0.0, 0.0, 1.0, 1.0])) == 0.5
    assert roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.2, 0.9])) == 0.875


def test_the_confounds_of_the_shared_media_are_reported(shared, tmp_path):
    lines = ["path,label,source"]
    for folder, label in (("real/ffhq", "real"), ("fake/sdxl", "fake"), ("fake/stylegan2", "fake")):
        lines += [f"{path},{label},{path.parent.name}" for path in sorted((shared / "media" / folder).iterdir())[:40]]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    extract(str(tmp_path / "list.csv"), tmp_path / "frames", view="resize64")
    card = preprocess([tmp_path / "frames"], tmp_path / "out")
    assert card["audit"]["tests"][0]["auc"] >= 0.9
    assert card["counts"]["groups"] == 120  # no two faces were merged
