"""A local store keeps a write-ahead log, so that a run does not wait for the disk at each of its commits."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agnews_exp.tracking import store


@pytest.fixture(autouse=True)
def listening() -> None:
    store.commit_quickly()


def journal_mode(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def engine_settings(path: Path) -> tuple[str, int]:
    from sqlalchemy import create_engine, text

    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS t (x)"))
        connection.commit()
        found = (
            str(connection.execute(text("PRAGMA journal_mode")).scalar()),
            int(connection.execute(text("PRAGMA synchronous")).scalar() or 0),
        )
    engine.dispose()
    return found


def test_local_database_gets_a_write_ahead_log_and_normal_flushing(tmp_path: Path) -> None:
    assert engine_settings(tmp_path / "a.db") == ("wal", 1)
    assert journal_mode(tmp_path / "a.db") == "wal"


def test_database_on_a_network_disk_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import psutil

    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    store._on_local_disk.cache_clear()
    try:
        assert engine_settings(tmp_path / "b.db") == ("delete", 2)
    finally:
        store._on_local_disk.cache_clear()


def test_a_database_that_somebody_writes_to_at_this_moment_can_still_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("CREATE TABLE t (x)")
    writer.execute("BEGIN IMMEDIATE")
    try:
        from sqlalchemy import create_engine, text

        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.1})
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
        engine.dispose()
    finally:
        writer.execute("ROLLBACK")
        writer.close()
