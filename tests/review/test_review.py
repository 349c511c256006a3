import pytest

from components.errors import InputError
from components.review import FullError, ReviewSet


@pytest.fixture
def media(tmp_path):
    path = tmp_path / "photo"
    path.write_bytes(b"photo")
    return path


def test_a_file_goes_from_pending_to_labelled_media(tmp_path, media):
    review = ReviewSet(tmp_path)
    entry = review.add(media, "real", {"verdict": "fake"}, "mine")
    assert [pending.id for pending in review.entries("pending")] == [entry.id]
    accepted = review.accept(entry.id[:6])
    assert accepted.path == f"accepted/real/review/{entry.id}"
    assert (review.directory / accepted.path).read_bytes() == b"photo"
    assert review.entries("pending") == []
    assert [(kept.claim, kept.state) for kept in review.entries()] == [("real", "accepted")]


def test_the_label_may_differ_from_the_claim(tmp_path, media):
    review = ReviewSet(tmp_path)
    entry = review.add(media, "real", {})
    assert review.accept(entry.id, "fake").path == f"accepted/fake/review/{entry.id}"


def test_the_same_file_twice_is_one_entry_with_the_later_claim(tmp_path, media):
    review = ReviewSet(tmp_path)
    review.add(media, "real", {})
    review.add(media, "fake", {})
    assert [entry.claim for entry in review.entries()] == ["fake"]


def test_a_rejected_file_is_kept_and_is_no_labelled_media(tmp_path, media):
    review = ReviewSet(tmp_path)
    entry = review.add(media, "real", {})
    rejected = review.reject(entry.id, "a drawing")
    assert (review.directory / rejected.path).read_bytes() == b"photo"
    assert [kept.reason for kept in review.entries("rejected")] == ["a drawing"]
    assert not (review.directory / "accepted").exists()


def test_accepting_goes_on_where_it_was_killed(tmp_path, media):
    review = ReviewSet(tmp_path)
    entry = review.add(media, "real", {})
    target = review.directory / "accepted/real/review" / entry.id
    target.parent.mkdir(parents=True)
    target.write_bytes(b"photo")  # as a process leaves it that was killed after its first write
    review.accept(entry.id)
    assert [kept.state for kept in review.entries()] == ["accepted"]


def test_a_full_review_set_takes_no_more(tmp_path, media):
    review = ReviewSet(tmp_path)
    review.add(media, "real", {}, most=1)
    review.add(media, "fake", {}, most=1)
    media.write_bytes(b"another")
    with pytest.raises(FullError):
        review.add(media, "real", {}, most=1)


@pytest.mark.parametrize("identity", ["", "zz", "../../x", "ffffffff"])
def test_an_unknown_id_is_one_line(tmp_path, media, identity):
    review = ReviewSet(tmp_path)
    review.add(media, "real", {})
    with pytest.raises(InputError, match="no pending file has the id"):
        review.accept(identity)


def test_accepted_files_join_the_media_of_a_run_as_a_source_of_their_own(tmp_path, media, monkeypatch):
    from components.extraction.sources import list_media
    from pipelines.local.run import with_review

    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "home"))
    for name in ("real/camera/a.jpg", "fake/generator/b.png"):
        (tmp_path / "own" / name).parent.mkdir(parents=True)
        (tmp_path / "own" / name).write_bytes(name.encode())
    review = ReviewSet(tmp_path / "home")
    with pytest.raises(InputError, match="no file of the review set has been accepted"):
        with_review(str(tmp_path / "own"))
    review.accept(review.add(media, "real", {}).id)
    items = list_media(with_review(str(tmp_path / "own")))
    assert sorted((item.source, item.label) for item in items) == [("camera", 0), ("generator", 1), ("review", 0)]
