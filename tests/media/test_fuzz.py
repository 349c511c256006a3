"""A short slice of the fuzzing that `make fuzz` does at length."""

import fuzz_media
import fuzz_structures


def test_mutated_pictures():
    outcomes = list(fuzz_media.fuzz(fuzz_media.pictures(), 200, seed=1))
    assert [outcome for outcome in outcomes if outcome[2]] == []
    assert sorted(number for number, _, _ in outcomes) == list(range(200))
    assert {"read", "truncated", "not media"} <= {outcome for _, outcome, _ in outcomes}


def test_mutated_clips(tmp_path):
    outcomes = list(fuzz_media.fuzz(fuzz_media.clips(tmp_path), 18, seed=1))
    assert [outcome for outcome in outcomes if outcome[2]] == []
    assert "read" in {outcome for _, outcome, _ in outcomes}


def test_a_crash_a_hang_and_a_leak_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_media, "HANG_S", 3.0)
    monkeypatch.setattr(fuzz_media, "work", misbehave)
    outcomes = {number: outcome for number, outcome, trouble in fuzz_media.fuzz({}, 5, seed=0, processes=1) if trouble}
    assert outcomes == {1: "crash", 3: "hang"}


def misbehave(seeds, seed, numbers, folder, results):
    """Die at file 1, hang at file 3."""
    import os
    import time

    for number in numbers:
        results.send((number, "started", ""))
        if number == 1:
            os._exit(9)
        if number == 3:
            time.sleep(60)
        results.send((number, "read", ""))
    results.send((numbers.stop, "finished", ""))


def test_structures_are_put_together_as_they_were_taken_apart(tmp_path):
    seeds = fuzz_media.pictures() | fuzz_media.clips(tmp_path)
    forms = {name: fuzz_media.form_of(data) for name, data in seeds.items()}
    assert {"mp4", "mkv", "jpeg", "png", "tiff"} <= set(forms.values())
    for name, form in forms.items():
        if form in fuzz_structures.FORMS:
            apart, together = fuzz_structures.FORMS[form]
            again = together(apart(seeds[name]))
            assert again == seeds[name] or (form == "mkv" and together(apart(again)) == again)


def test_broken_lists():
    outcomes = list(fuzz_media.fuzz_lists(6, seed=2))
    assert [outcome for outcome in outcomes if outcome[2]] == []
    assert {outcome for _, outcome, _ in outcomes} == {"listed", "refused"}
