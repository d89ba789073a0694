"""Tables: ids stay what they are, other people's encodings are read, and what is no table is named."""

import pandas as pd
import pytest

from uad.common.errors import InputError
from uad.common.tabular import read_table, write_table

IDS = ["001", "1", "1.0", "1e5", "0x10", "NA", "nan", "None", "null", "TRUE", "Zürich", 'a"b', "-"]


@pytest.mark.parametrize("name", ["table.tsv", "table.csv"])
def test_ids_that_look_like_something_else_come_back(tmp_path, name):
    path = tmp_path / name
    write_table(pd.DataFrame({"subject": IDS, "row": range(len(IDS)), "age": [None, *range(1, len(IDS))]}), path)
    table = read_table(path, integers=("row",), numbers=("age",))
    assert table["subject"].tolist() == IDS
    assert table["row"].tolist() == list(range(len(IDS)))
    assert table["age"].isna().tolist() == [True] + [False] * (len(IDS) - 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_other_peoples_encodings(tmp_path, encoding):
    path = tmp_path / "participants.tsv"
    path.write_bytes("participant_id\tsite\nsub-01\tZürich\n".encode(encoding))
    table = read_table(path)
    assert list(table.columns) == ["participant_id", "site"]
    assert table["site"].tolist() == ["Zürich"]


def test_windows_line_ends_and_empty_cells(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes(b"subject\tsite\tage\r\ns1\t\tn/a\r\ns2\r\n")
    table = read_table(path, numbers=("age",), missing=("n/a",))
    assert table["site"].tolist() == ["", ""]
    assert table["age"].isna().all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"a\tb\n1\t2\n1\t2\t3\n", "cannot be read as a table"),
        (b"a\tb\n1\t2\t3\n4\t5\t6\n", "cannot be read as a table"),
        (b"\x89PNG\x00\x01\x02", "is not text"),
        (b"subject\trow\ns1\tfirst\n", "column row holds something that is not a number"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, message):
    path = tmp_path / "table.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table(path, integers=("row",))


def test_a_missing_or_dangling_table_is_named(tmp_path):
    (tmp_path / "link.tsv").symlink_to(tmp_path / "nowhere.tsv")
    for name in ("absent.tsv", "link.tsv"):
        with pytest.raises(InputError, match=f"{name}: does not exist"):
            read_table(tmp_path / name)
