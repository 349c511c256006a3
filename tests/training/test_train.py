"""Training end to end on a tiny dataset, with small backbones whose weights are made here."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from autoencoder import arrays
from striped import SIZE, small_backbone, write_dataset, write_weights

from components.dataset import Dataset
from components.errors import InputError
from components.familiarity import Familiarity

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("training")
    write_dataset(place / "dataset")
    with small_backbone():
        write_weights(place / "small.weights.h5", "Small")
        write_weights(place / "mobilenetv2.weights.h5")
        yield place


@pytest.fixture(autouse=True)
def home(place, monkeypatch):
    monkeypatch.setenv("AI_VS_REAL_HOME", str(place / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def settings(place: Path, backbone: str = "small", **more):
    return {
        "backbone": backbone,
        "weights": str(place / f"{backbone}.weights.h5"),
        "unfreeze_layers": 3,
        "recipe": "plain",
        "epochs": 2,
        "fine_tune_epochs": 3,
        "batch_size": 8,
        "draws": 2,
    } | more


@pytest.fixture(scope="module")
def trained(place):
    from components.training import train

    before = dict(os.environ)
    os.environ["AI_VS_REAL_HOME"] = str(place / "home")
    try:
        pages = {"report": place / "curves.html", "data_page": place / "data.html"}
        pages["data_page"].write_text("<html>what it was trained on</html>")
        return train.train(place / "dataset", place / "detector", **pages, **settings(place))
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_detector_scores_its_own_view_and_says_where_it_comes_from(place, trained):
    from components.detector import Detector

    detector = Detector(place / "detector")
    rows = Dataset(place / "dataset")
    logits = detector.logits(rows.views(rows.rows("validation")))
    assert logits.shape == (8,)
    assert np.isfinite(logits).all()
    assert detector.card["digest"] == trained["digest"]
    assert detector.card["dataset_digest"] == rows.digest
    assert detector.card["view"] == "crops32x2"
    assert detector.card["note"] == "made in a test"
    assert detector.card["unfrozen"]["layers"][0] == "block_3_conv"
    assert len(detector.card["weights"]["sha256"]) == 64
    assert "Learning curves" in (place / "curves.html").read_text()


def test_the_run_is_in_mlflow_with_a_value_for_every_epoch(trained):
    from components import tracking

    client = tracking.connect()
    run = client.get_run(trained["mlflow_run"])
    epochs = sum(trained["epochs"].values())
    assert run.info.status == "FINISHED"
    assert run.data.params["backbone"] == "small"
    assert run.data.tags["dataset"] == trained["dataset_digest"]
    assert run.data.tags["keras"] == trained["versions"]["keras"]
    assert len(client.get_metric_history(trained["mlflow_run"], "val_loss")) == epochs
    assert {file.path for file in client.list_artifacts(trained["mlflow_run"])} >= {"card.json", "pages"}
    pages = [file.path for file in client.list_artifacts(trained["mlflow_run"], "pages")]
    assert pages == ["pages/data.html", "pages/training.html"]


def test_a_killed_run_goes_on_to_the_same_detector(place, trained):
    """Ctrl-C in phase 1, then SIGKILL in phase 2, then to the end: as the run that nobody disturbed."""
    code = (
        "import striped\nfrom components.training import train\nwith striped.small_backbone():\n"
        f"  card = train.train({str(place / 'dataset')!r}, {str(place / 'killed')!r}, **{settings(place)!r})\n"
        "print('digest', card['digest'])"
    )

    def start() -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TF_CPP_MIN_LOG_LEVEL": "3"}
        out = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=out, stderr=out, text=True)

    for line, blow in (("head 1/", signal.SIGINT), ("fine-tune 2/", signal.SIGKILL)):
        process = start()
        assert any(line in said for said in process.stderr)
        process.send_signal(blow)
        process.communicate(timeout=120)
        assert process.returncode != 0
        assert not (place / "killed").exists()
    said, progress = start().communicate(timeout=240)
    assert f"digest {trained['digest']}" in said, progress[-2000:]
    assert "fine-tune goes on after epoch" in progress
    assert "batches of training views" not in progress
    assert not any((place / "home" / "training").iterdir())


def test_kept_activations_and_pixels_give_the_same_weights(place):
    import keras

    from components.training import model, phases, train

    def run(cached: bool):
        wanted = train.Settings(**settings(place, augment=False, dropout=0.0, activation_cache=cached, draws=1))
        keras.utils.set_random_seed(0)
        network = model.build(wanted.backbone, wanted.weights, SIZE, dropout=0.0)
        rows = Dataset(place / "dataset")
        work = place / f"work-{cached}"
        training = phases.Phases(network, rows, wanted, work, lambda *_: None)
        assert training.run()["activation_cache"] == cached
        return network.get_weights()

    assert not phases.Phases(
        None, Dataset(place / "dataset"), train.Settings(recipe="plain", cache_gigabytes=1e-6), place / "none", None
    ).fits(2000), "activations over the budget are not kept"
    kept, plain = run(True), run(False)
    assert all(np.allclose(a, b, rtol=1e-3, atol=2e-4) for a, b in zip(kept, plain, strict=True))


def test_deep_recipe_tells_the_planted_trace(place):
    from components.detector import Detector
    from components.training import train

    assert train.Settings(recipe="deep").training_degradations == 1.0
    wanted = settings(
        place, "mobilenetv2", recipe="deep", fine_tune_epochs=0, augment=False, training_degradations=0.0
    )  # 16 pictures are few
    card = train.train(place / "dataset", place / "deep", report=place / "deep.html", **wanted)
    assert [one["features"] for one in card["depths"][:-1]] == [64, 192, 288, 384, 768, 1152, 1920, 2560]
    assert card["depths"][-1]["features"] == sum(one["features"] for one in card["depths"][:-1])
    assert all(0 <= one["auc"] <= 1 for one in card["depths"])
    assert card["depths"][-2]["layer"] == "out_relu"
    assert "What the head reads" in (place / "deep.html").read_text()
    rows = Dataset(place / "dataset")
    chosen = rows.rows("validation")
    logits = Detector(place / "deep").logits(rows.views(chosen))
    label = rows.column("label")[chosen]
    assert logits[label == 1].min() > logits[label == 0].max()
    assert card["recipe"] == "deep"
    assert card["settings"]["training_degradations"] == 0.0


def test_consistency_pulls_the_draws_of_a_view_together(place):
    import keras

    from components.training import data, model, phases, recipes, train

    rows = Dataset(place / "dataset")
    wanted = settings(place, "mobilenetv2", recipe="deep", fine_tune_epochs=0, training_degradations=0.5)
    recipe = recipes.recipe_for("deep", wanted["weights"])
    batches = data.Batches(rows, rows.rows("train"), 8, augment=True, degrade=0.5)
    as_it_is = np.concatenate(rows.views(rows.rows("train")))
    assert np.array_equal(batches.pixels(np.arange(batches.samples)), as_it_is)
    batches.begin_epoch(1)
    degraded = batches.pixels(np.arange(batches.samples))
    apart = {}
    for consistency in (0.0, 10.0):
        keras.utils.set_random_seed(0)
        network = model.build(
            wanted["backbone"],
            wanted["weights"],
            SIZE,
            depths=recipe.depths,
            spread=recipe.spread,
            sources=data.classes(rows).counts,
        )
        chosen = train.Settings(**wanted, consistency=consistency)
        phases.Phases(network, rows, chosen, place / f"pulled-{consistency}", lambda *_: None).run()
        clean, changed = (network.predict_on_batch(np.asarray(pixels)) for pixels in (as_it_is, degraded))
        apart[consistency] = np.std(clean - changed) / np.std(clean)
    assert apart[10.0] < apart[0.0]


def test_the_last_component_is_a_source_of_fakes_that_the_head_and_familiarity_know(place, monkeypatch):
    from components import last_component
    from components.detector import Detector
    from components.training import phases, train

    np.savez(place / "tiny.npz", **arrays())
    wanted = settings(place, "small", recipe="deep", fine_tune_epochs=0, last_component=str(place / "tiny.npz"))
    card = train.train(place / "dataset", place / "decoded", work=place / "decoding", **wanted)
    assert card["settings"]["last_component"] == "tiny.npz"
    assert card["runtime"]["holds"]
    assert Familiarity.read(place / "decoded").arrays["sources"].tolist() == ["made", "last component", "made"]
    assert Detector(place / "decoded").model.get_layer("head_fake_sources").units == 2
    # A training that was killed behind it does not decode again.
    again = place / "again"
    kill = pytest.raises(KeyboardInterrupt)
    with monkeypatch.context() as patched, kill:
        patched.setattr(phases.fit, "solve_head", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train.train(place / "dataset", place / "decoded again", work=again, **wanted)
    monkeypatch.setattr(last_component, "network", None)
    assert train.train(place / "dataset", place / "decoded again", work=again, **wanted)["digest"] == card["digest"]


def test_one_epoch_from_scratch_is_one_epoch_of_all_layers_and_never_runs_twice_at_once(place, capfd):
    from components.training import train

    wanted = {"backbone": "small", "weights": "none", "epochs": 1, "batch_size": 8}
    rows = Dataset(place / "dataset")
    work = place / "twice" / train.Settings(**wanted).key(rows.digest)
    work.mkdir(parents=True)
    with open(work / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="under way in another process"):
            train.train(place / "dataset", place / "second", work=place / "twice", **wanted)
    card = train.train(place / "dataset", place / "second", work=place / "twice", **wanted)
    assert not work.exists()
    assert card["epochs"] == {"scratch": 1}
    assert card["unfrozen"] == {"layers": "all"}
    assert "from scratch: all layers learn" in capfd.readouterr().err


def test_one_label_alone_cannot_be_trained_on(place):
    from components.training import train

    write_dataset(place / "reals", labels=(0,), rows=6)
    with pytest.raises(InputError, match="none of them is fake"):
        train.train(place / "reals", place / "never")
    assert not (place / "never").exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("recipe", {"recipe": "best"}),
        ("epochs", {"epochs": 0}),
        ("draws", {"draws": 0}),
        ("consistency", {"recipe": "plain", "consistency": 1.0}),
        ("last_component", {"recipe": "plain", "last_component": "some.npz"}),
        ("last_component", {"weights": "none", "last_component": "some.npz"}),
        ("last_component", {"fine_tune_epochs": 1, "last_component": "some.npz"}),
        ("last_component", {"consistency": 1.0, "last_component": "some.npz"}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, values):
    from components.training import train

    with pytest.raises(InputError, match=name):
        train.Settings(**values)


@pytest.mark.parametrize(
    ("asked", "phase_2"),
    [
        ({"recipe": "plain"}, 10),
        ({"recipe": "deep"}, 0),
        ({"recipe": "plain", "epochs": 1}, 0),
        ({"recipe": "plain", "epochs": 1, "fine_tune_epochs": 3}, 3),
        ({"recipe": "plain", "weights": "none"}, 0),
    ],
)
def test_phase_2_has_as_many_epochs_as_asked_for_or_as_the_recipe_has_and_none_after_a_single_epoch(asked, phase_2):
    from components.training import train

    assert train.Settings(**asked).fine_tune_epochs == phase_2


def test_mixed_precision_learns_the_same_and_leaves_a_float32_detector(place):
    from components.detector import Detector
    from components.training import train

    rows = Dataset(place / "dataset")
    views = rows.views(rows.rows("validation"))
    wanted = settings(place, recipe="deep", fine_tune_epochs=1, augment=False, training_degradations=0.0, dropout=0.0)
    logits, digests = {}, set()
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        card = train.train(place / "dataset", place / precision, **wanted, precision=precision)
        detector = Detector(place / precision)
        assert {layer.compute_dtype for layer in detector.model.layers} == {"float32"}
        assert {str(weight.dtype) for weight in detector.model.get_weights()} <= {"float32", "int64"}  # and a counter
        logits[precision] = detector.logits(views)
        assert card["settings"]["precision"] == precision
        assert card["devices"] == ["cpu"]
        digests.add(card["digest"])
    assert len(digests) == 3
    spread = logits["float32"].std()
    for precision in ("mixed_bfloat16", "mixed_float16"):
        assert np.abs(logits[precision] - logits["float32"]).max() < 0.1 * spread  # 0.02 when written


TEAM = """
import sys
backend, dataset, work = sys.argv[1:]
import keras
import numpy as np
from pathlib import Path
from striped import network as built
if backend == "tensorflow":
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
from components.dataset import Dataset
from components.training import devices, model, phases, train

def run(team, name, **settings):
    wanted = train.Settings(
        "mobilenetv2", recipe="plain", epochs=1, unfreeze_layers=3, batch_size=8, draws=1, augment=False, **settings
    )
    keras.utils.set_random_seed(0)
    with team.scope():
        network = built()
    phases.Phases(network, Dataset(dataset), wanted, Path(work) / name, lambda *_: None, team).run()
    return network

both = devices.team(keras.distribution.list_devices(), 8)
assert both.count == 2
assert devices.team(keras.distribution.list_devices(), 7).count == 1
alone = run(devices.ALONE, "alone", fine_tune_epochs=2)
cached = backend == "jax"  # from pixels on TensorFlow, from activations on JAX
run(both, "both", fine_tune_epochs=1, activation_cache=cached)
team = run(both, "both", fine_tune_epochs=2, activation_cache=cached)  # goes on after epoch 1
keras.utils.set_random_seed(0)
start = built()
pairs = zip(alone.get_weights(), team.get_weights(), start.get_weights(), strict=True)
away, learnt = map(max, zip(*[(np.abs(a - b).max(), np.abs(a - c).max()) for a, b, c in pairs]))
assert away < 0.01 * learnt, (away, learnt)
team.save(Path(work) / "model.keras")
keras.saving.load_model(Path(work) / "model.keras", compile=False)
print("done")
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_what_one_does(place, backend, tmp_path):
    """A network of small blocks: how the devices share a batch does not depend on its layers."""
    pytest.importorskip(backend, reason="jax is in the dev extra")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    command = [sys.executable, "-c", TEAM, backend, place / "dataset", tmp_path]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.stdout.endswith("done\n"), ended.stderr[-3000:]
    assert "fine-tune goes on after epoch 1" in ended.stderr
