"""The contract of the artifacts, wherever they are stored: a folder, memory, S3."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fsspec
import pytest
from racers import in_threads
from servers import S3Server

from kerasweep.jobs.errors import Damaged, InputError, OutOfReach
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts, digest_of

KEY = "sweeps/abcd1234/trials/0/1/checkpoint-3-00ff00ff.npz"
SIZES = [0, 1, 100_000, 3 * 2**20 + 1]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + b"x" * (size % 256)


@pytest.fixture(params=["folder", "file url", "memory", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """Empty artifacts, in each kind of location in turn."""
    if request.param == "s3":
        return Artifacts(request.getfixturevalue("s3_url"))
    places = {
        "folder": str(tmp_path / "my artifacts"),
        "file url": f"file://{tmp_path / 'my artifacts'}",
        "memory": f"memory://{tmp_path.name}",
    }
    return Artifacts(places[request.param])


def overwrite(artifacts: Artifacts, key: str, data: bytes) -> None:
    """Put other bytes under a key, to simulate damage."""
    artifacts._fs.pipe_file(artifacts._path(key), data)


class TestPutAndGet:
    @pytest.mark.parametrize("size", SIZES)
    def test_the_bytes_come_back(self, artifacts: Artifacts, size: int) -> None:
        data = content(size)
        assert artifacts.put(KEY, data) == (sha(data), size)
        assert artifacts.get(KEY, sha(data)) == data

    @pytest.mark.parametrize("size", SIZES)
    def test_files_come_back(self, artifacts: Artifacts, size: int, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(content(size))
        assert artifacts.put_file(KEY, source) == digest_of(source) == (sha(content(size)), size)
        artifacts.fetch(KEY, sha(content(size)), target)
        assert target.read_bytes() == content(size)
        assert sorted(path.name for path in tmp_path.glob(".*")) == [], "nothing temporary is left"

    def test_a_second_put_takes_the_place_of_the_first(self, artifacts: Artifacts) -> None:
        artifacts.put(KEY, b"one")
        artifacts.put(KEY, b"the other")
        assert artifacts.get(KEY, sha(b"the other")) == b"the other"

    def test_a_reader_sees_one_writer_whole(self, artifacts: Artifacts) -> None:
        versions = [bytes([number]) * 200_000 for number in range(4)]
        artifacts.put(KEY, versions[0])

        def work(who: int) -> None:
            for turn in range(5):
                if who < 2:
                    artifacts.put(KEY, versions[(who + turn) % 4])
                else:
                    seen = artifacts._fs.cat_file(artifacts._path(KEY))
                    assert seen in versions, len(seen)

        in_threads(work, 4)

    def test_a_uri_leads_to_the_bytes(self, artifacts: Artifacts) -> None:
        artifacts.put(KEY, b"data")
        with fsspec.open(artifacts.uri(KEY), "rb") as file:
            assert file.read() == b"data"


class TestKeys:
    def test_are_listed_in_order_below_a_prefix(self, artifacts: Artifacts) -> None:
        keys = ["a/b/2.npz", "a/b/10.npz", "a/bc/1.npz", "a/b/c/d/e.keras", "z"]
        for key in keys:
            artifacts.put(key, b"")
        assert artifacts.keys() == sorted(keys)
        assert artifacts.keys("a/b") == ["a/b/10.npz", "a/b/2.npz", "a/b/c/d/e.keras"]
        assert artifacts.keys("none") == []

    def test_none_where_nothing_was_put(self, artifacts: Artifacts) -> None:
        assert artifacts.keys() == []

    def test_deleted_ones_are_gone_and_may_be_deleted_again(self, artifacts: Artifacts) -> None:
        artifacts.put("a/1", b"1")
        artifacts.put("a/2", b"2")
        for _ in range(2):
            artifacts.delete("a/1")
        assert artifacts.keys() == ["a/2"]

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".a", "a/.b", "a b", "ä", "a\n"]
    )
    def test_are_names_and_slashes(self, artifacts: Artifacts, key: str, tmp_path: Path) -> None:
        for call in (
            lambda: artifacts.put(key, b""),
            lambda: artifacts.put_file(key, Path(__file__)),
            lambda: artifacts.get(key, ""),
            lambda: artifacts.fetch(key, "", tmp_path / "target"),
            lambda: artifacts.delete(key),
            lambda: artifacts.uri(key),
        ):
            with pytest.raises(InputError, match="names and slashes"):
                call()
        assert not (tmp_path / "target").exists()


class TestDamage:
    @pytest.mark.parametrize("how", ["a flipped bit", "truncated", "empty", "longer", "gone"])
    def test_is_reported_and_nothing_is_written(self, artifacts: Artifacts, how: str, tmp_path: Path) -> None:
        data = content(100_000)
        sha256, _ = artifacts.put(KEY, data)
        damaged = {
            "a flipped bit": data[:50_000] + bytes([data[50_000] ^ 4]) + data[50_001:],
            "truncated": data[:-1],
            "empty": b"",
            "longer": data + b"\0",
        }
        if how == "gone":
            artifacts.delete(KEY)
        else:
            overwrite(artifacts, KEY, damaged[how])
        target = tmp_path / "model.keras"
        target.write_bytes(b"the one before")
        with pytest.raises(
            Damaged, match="gone" if how == "gone" else f"must have SHA-256 {sha256[:12]}"
        ) as told:
            artifacts.get(KEY, sha256)
        assert KEY in str(told.value)
        with pytest.raises(Damaged):
            artifacts.fetch(KEY, sha256, target)
        assert target.read_bytes() == b"the one before"
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class TestPlaces:
    @pytest.mark.parametrize("url", ["nosuch://place", "s4://bucket/x"])
    def test_of_unknown_kinds_are_refused(self, url: str) -> None:
        with pytest.raises(InputError, match=r"KERASWEEP_ARTIFACTS_URL\) must be a folder or an fsspec URL"):
            Artifacts(url)

    def test_a_reference_goes_through_json(self) -> None:
        ref = ArtifactRef("model", KEY, "0" * 64, 5, 3)
        assert ArtifactRef(**ref.to_json()) == ref


class TestS3:
    def test_what_others_write_is_seen(self, s3_url: str) -> None:
        mine = Artifacts(s3_url)
        others = Artifacts(
            s3_url, skip_instance_cache=True
        )  # without a shared directory cache, as in another process
        assert mine.keys() == []
        others.put("a/b", b"1")
        assert mine.keys() == ["a/b"]
        others.delete("a/b")
        assert mine.keys() == []

    def test_a_bucket_that_is_not_there(self, s3_url: str) -> None:
        lost = Artifacts("s3://no-such-bucket/x")
        for call in (lambda: lost.put(KEY, b""), lambda: lost.get(KEY, ""), lambda: lost.keys()):
            with pytest.raises(
                OutOfReach, match="The artifact store is out of reach at s3://no-such-bucket/x"
            ):
                call()

    @pytest.mark.slow  # s3fs retries for about ten seconds
    def test_a_server_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("s3fs")
        pytest.importorskip("moto")
        with S3Server() as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            artifacts = Artifacts(f"s3://{server.bucket}/x", skip_instance_cache=True)
            artifacts.put(KEY, b"data")
        for call in (lambda: artifacts.put(KEY, b""), lambda: artifacts.get(KEY, sha(b"data"))):
            with pytest.raises(OutOfReach) as told:
                call()
            assert len(str(told.value).splitlines()) == 2
