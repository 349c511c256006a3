"""From a model to its media and back, by records and a registry that hold what a run leaves."""

import hashlib
import json

import pytest

from components import registry
from components.errors import InputError
from components.lineage import content_of, media_in_words, model_in_words, of_media, of_model, write_page
from components.records import open_records
from pipelines.commands.main import main

CONTENT = b"a picture"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def media(dataset, path, split, source="camera", content=""):
    shared = {"dataset": dataset, "path": path, "status": "accepted", "label": "real", "source": source}
    return {"_id": f"{dataset}/{path}", **shared, "split": split, "content_sha256": content or path}


@pytest.fixture
def two_models(registry_home, tmp_path):
    """Two registered detectors: the picture was in the training of the first, and in the test of the second."""
    with open_records() as records:
        for number, split in ((1, "train"), (2, "test")):
            dataset, digest = f"dataset{number}", f"detector{number}"
            model = tmp_path / digest
            model.mkdir()
            (model / "model.keras").write_bytes(digest.encode())
            card = {"format": 1, "digest": digest, "backbone": "b0", "view": "crops256x5", "threshold": 0.5}
            card["versions"] = {"keras": "3.15.1"}
            (model / "card.json").write_text(json.dumps(card))
            version = registry.add_version("m", model)
            certificate = {"holds": True, "text": "No group stands in two splits."}
            records.put("datasets", {"_id": dataset, "format": 1, "rows": 3, "certificate": certificate, "media": "/m"})
            rows = [media(dataset, "real/a.jpg", split, content=DIGEST), media(dataset, "real/b.jpg", "train", "ann")]
            records.put_many("media", rows)
            revision = {"commit": "c" * 40, "branch": "main", "dirty": True}
            shared = {"digest": digest, "dataset_digest": dataset, "data_version": f"version{number}"}
            run = {"_id": f"mlflow{number}", "type": "training", "card": card, "revision": revision, **shared}
            if number == 1:  # on a cluster, where no record of a pipeline is kept
                made_by = {"pipeline_digest": "q" * 64, "images": ["host/training:7"], "pipeline_run": "4d9c"}
                records.put("runs", run | made_by)
            else:
                records.put("runs", run)
                records.put("runs", {"_id": f"run{number}", "type": "pipeline", "pipeline_digest": "p" * 64, **shared})
            event = {
                "_id": f"m/{number}",
                "type": "event",
                "name": "m",
                "kind": "promoted",
                "reasons": ["it is better"],
            }
            records.append("promotions", {**event, "version": version.version})
        registry.set_alias("m", "champion", "2")
        yield records


def test_a_model_is_traced_to_its_media(two_models, tmp_path):
    found = of_model(two_models, "m")
    assert found["model"]["version"] == "2"
    steps = dict(model_in_words(found))
    assert steps["commit"] == "cccccccccccc on main with changes"
    assert steps["pipeline"] == f"{'p' * 64}, run run2"
    assert steps["data"] == "version version2, dataset dataset2"
    assert steps["split"].startswith("holds. No group")
    assert steps["media"] == "/m: test: 1 real from camera; train: 1 real from ann"
    of_cluster = of_model(two_models, "m", "1")
    assert of_cluster["data"]["version"] == "version1"
    steps = dict(model_in_words(of_cluster))
    assert (steps["pipeline"], steps["images"]) == (f"{'q' * 64}, run 4d9c", "host/training:7")
    with pytest.raises(InputError, match="it has 2 @champion, 1"):
        of_model(two_models, "m", "shadow")
    write_page(tmp_path / "lineage.html", found)
    page = (tmp_path / "lineage.html").read_text()
    assert all(text in page for text in ("version2", "cccccccccccc", "it is better", "dataset2"))


def test_a_picture_is_traced_to_the_models_that_learnt_from_it(two_models, tmp_path):
    picture = tmp_path / "somewhere-else.jpg"
    picture.write_bytes(CONTENT)
    assert content_of(str(picture)) == content_of(DIGEST.upper()) == DIGEST
    found = of_media(two_models, ["m"], content=DIGEST)
    assert found["files"] == 1
    assert found["retrain"] == ["m/1"]
    assert [(model["version"], model["trained"], model["judged"]) for model in found["models"]] == [
        ("2", 0, 1),
        ("1", 1, 0),
    ]
    assert media_in_words(of_media(two_models, ["m"], content="0" * 64)) == ["No dataset that is recorded holds it."]


def test_an_uploader_who_withdraws_names_the_models_to_train_again(two_models, capsys):
    assert main(["lineage", "--source", "ann", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["retrain"] == ["m/2", "m/1"]
    assert main(["lineage", "m@champion"]) == 0
    assert "version2" in capsys.readouterr().out
    assert main(["lineage", "--file", "real/a.jpg"]) == 0
    assert "trained again: m/1." in capsys.readouterr().out
    assert main(["lineage", "m@nobody"]) == 2
