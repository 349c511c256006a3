import pytest

from components.media.stores import fetched


def test_a_file_is_found_in_its_directory_beside_its_list_or_by_its_own_path(tmp_path):
    (tmp_path / "real").mkdir()
    picture = tmp_path / "real" / "a.jpg"
    picture.write_bytes(b"a")
    (tmp_path / "media.csv").write_text("path,label\nreal/a.jpg,real\n")
    for collections, path in (
        ([str(tmp_path)], "real/a.jpg"),
        ([str(tmp_path / "elsewhere"), str(tmp_path / "media.csv")], "real/a.jpg"),
        ([], str(picture)),
    ):
        with fetched(collections, path) as local:
            assert local.read_bytes() == b"a"


def test_the_error_for_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"real/a\.jpg.*" + tmp_path.name),
        fetched([str(tmp_path)], "real/a.jpg"),
    ):
        pass
