"""The store of arrays on disk: what goes in comes out, and nothing damaged ever does."""

import logging
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from agnews_exp.core.cache import ArrayCache, cache_clear, cache_info, cache_key, digest_texts


def arrays(n=1000):
    return {"a": np.arange(n), "b": np.linspace(0, 1, n).reshape(2, -1), "empty": np.empty((0, 3), np.float32)}


def never():
    raise AssertionError("the entry should have been found")


def test_what_was_stored_comes_back_with_types_shapes_and_values(tmp_path):
    cache = ArrayCache(tmp_path / "new" / "folder")
    assert cache.load("kind", "key") is None
    assert cache.save("kind", "key", arrays())
    entry = cache.load("kind", "key")
    for name, expected in arrays().items():
        assert entry[name].dtype == expected.dtype
        np.testing.assert_array_equal(entry[name], expected)
    assert list((tmp_path / "new" / "folder" / "kind").glob(".*")) == []


def test_writing_into_a_loaded_array_does_not_reach_the_file(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.save("kind", "key", arrays())
    cache.load("kind", "key")["a"][:] = -1
    np.testing.assert_array_equal(cache.load("kind", "key")["a"], np.arange(1000))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 9] ^= 4
    path.write_bytes(bytes(data))


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [flip, truncate, os.remove])
@pytest.mark.parametrize("file", ["a.npy", "b.npy", "manifest.json"])
def test_a_damaged_entry_is_reported_and_rebuilt(tmp_path, caplog, damage, file):
    cache = ArrayCache(tmp_path)
    cache.save("kind", "key", arrays())
    damage(tmp_path / "kind" / "key" / file)
    with caplog.at_level(logging.WARNING):
        entry = cache.get_or_build("kind", "key", lambda: arrays())
    np.testing.assert_array_equal(entry["a"], np.arange(1000))
    assert "damaged" in caplog.text
    assert str(tmp_path / "kind" / "key") in caplog.text
    np.testing.assert_array_equal(cache.get_or_build("kind", "key", never)["a"], np.arange(1000))


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    cache = ArrayCache(tmp_path)

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get_or_build("kind", "key", fail)
    assert cache_info(tmp_path).entries == 0
    assert cache.get_or_build("kind", "key", lambda: arrays()).keys() == arrays().keys()


def test_the_entries_used_longest_ago_make_room(tmp_path):
    one = {"a": np.zeros(1000)}
    cache = ArrayCache(tmp_path, size_limit=3 * 9000)
    for key in ("first", "second", "third"):
        cache.save("kind", key, one)
        time.sleep(0.02)
    assert cache.load("kind", "first") is not None
    time.sleep(0.02)
    cache.save("kind", "fourth", one)
    assert cache.load("kind", "second") is None
    assert all(cache.load("kind", key) is not None for key in ("first", "third", "fourth"))
    assert cache_info(tmp_path).size <= 3 * 9000


def test_an_entry_larger_than_the_limit_is_not_stored_but_returned(tmp_path):
    cache = ArrayCache(tmp_path, size_limit=100)
    entry = cache.get_or_build("kind", "key", lambda: arrays())
    np.testing.assert_array_equal(entry["a"], np.arange(1000))
    assert cache_info(tmp_path).entries == 0


def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    entry = ArrayCache(tmp_path / "file").get_or_build("kind", "key", lambda: arrays())
    np.testing.assert_array_equal(entry["a"], np.arange(1000))
    assert "could not be cached" in caplog.text


def _build_slowly(folder, started, built, barrier):
    def build():
        with built.get_lock():
            built.value += 1
        time.sleep(0.2)
        return arrays()

    started.release()
    barrier.wait(60)
    entry = ArrayCache(folder).get_or_build("kind", "key", build)
    assert entry["a"][-1] == 999


def test_processes_that_ask_at_once_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, built, barrier = context.Semaphore(0), context.Value("i", 0), context.Barrier(3)
    jobs = [context.Process(target=_build_slowly, args=(tmp_path, started, built, barrier)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(90)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert built.value == 1


def test_readers_never_see_half_an_entry_while_it_is_replaced(tmp_path, caplog):
    cache = ArrayCache(tmp_path)
    stop = threading.Event()

    def replace():
        while not stop.is_set():
            cache_clear(tmp_path)
            cache.save("kind", "key", arrays(20_000))

    writer = threading.Thread(target=replace)
    writer.start()
    seen = 0
    deadline = time.monotonic() + 30
    while seen < 20 and time.monotonic() < deadline:
        entry = cache.get_or_build("kind", "key", lambda: arrays(20_000))
        np.testing.assert_array_equal(entry["a"], np.arange(20_000))
        seen += 1
    stop.set()
    writer.join()
    assert seen == 20


def test_info_goes_by_kind_and_clear_removes_all(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.save("counts", "x", {"a": np.zeros(10)})
    cache.save("matrices", "y", {"a": np.zeros(20)})
    cache.save("matrices", "z", {"a": np.zeros(20)})
    info = cache_info(tmp_path)
    assert info.entries == 3
    assert {kind: count for kind, (count, _) in info.by_kind.items()} == {"counts": 1, "matrices": 2}
    assert info.size == sum(file.stat().st_size for file in tmp_path.rglob("*.*") if file.is_file())
    assert cache_clear(tmp_path).entries == 3
    assert cache_info(tmp_path).entries == 0
    assert cache_info(tmp_path / "none").entries == 0


def test_keys_and_digests_tell_everything_apart():
    keys = [
        cache_key(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",), (b"1",), (True,), (None,), ()]
    ]
    assert len(set(keys)) == len(keys)
    digests = [
        digest_texts(t) for t in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], ["abc", ""], ["", "abc"], ["\ud800"])
    ]
    assert len(set(digests)) == len(digests)
    assert cache_key("a", 1) == cache_key("a", 1)
    assert digest_texts(["x", "y"]) == digest_texts(["x", "y"])


def test_entries_may_fill_the_limit_to_the_last_byte(tmp_path):
    first = ArrayCache(tmp_path / "measured")
    assert first.save("kind", "key", {"a": np.zeros(1000)}) is True
    size = cache_info(tmp_path / "measured").size
    exact = ArrayCache(tmp_path / "exact", size_limit=2 * size)
    for key in ("one", "two"):
        assert exact.save("kind", key, {"a": np.zeros(1000)})
    assert cache_info(tmp_path / "exact").entries == 2


def test_a_digest_depends_on_every_text_of_a_long_list():
    texts = [f"text {i}" for i in range(8193)]
    whole = digest_texts(texts)
    for i in (0, 4095, 4096, 8191, 8192):
        assert digest_texts([*texts[:i], texts[i].upper(), *texts[i + 1 :]]) != whole
