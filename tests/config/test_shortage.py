"""Memory that gives out and databases that fail are explained, whatever library noticed."""

from __future__ import annotations

import sqlite3

import pytest

from agnews_exp.core.errors import ResourceError, StorageError
from agnews_exp.core.process import explain_shortage


def wrapped(cause):
    """Raise an error the way a library does that caught another one."""
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("the library gives up") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
    ],
)
def test_lack_of_memory_says_how_to_need_less(cause):
    known = explain_shortage(wrapped(cause))
    assert isinstance(known, ResourceError)
    assert "data_fraction" in known.fix
    assert known.exit_code == 3


def test_a_locked_database_and_a_damaged_one_have_different_fixes(tmp_path):
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as holder:
        holder.execute("create table a (b)")
        holder.commit()
        holder.execute("begin exclusive")
        with pytest.raises(sqlite3.OperationalError) as locked:
            sqlite3.connect(path, timeout=0).execute("select * from a")
    path.write_bytes(b"nothing that sqlite knows" * 100)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        sqlite3.connect(path).execute("select * from a")
    one, other = explain_shortage(wrapped(locked.value)), explain_shortage(wrapped(damaged.value))
    assert isinstance(one, ResourceError)
    assert "end that process" in one.fix
    assert isinstance(other, StorageError)
    assert "agnews sync" in other.fix


def test_other_errors_stay_bugs():
    assert explain_shortage(wrapped(ValueError("a bug"))) is None
