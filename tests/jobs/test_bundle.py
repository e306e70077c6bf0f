"""A job's code as one zip: its content, the same bytes everywhere, and nothing outside the folder."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasweep.jobs.code.bundle import LIMIT_BYTES, bundle, unpack
from kerasweep.jobs.errors import Damaged, ProgramError

FILES = {
    "train.py": "import keras, model\ndef load_data():\n    from data.digits import load\n",
    "model.py": "import layers.dense as dense\n",
    "layers/__init__.py": "",
    "layers/dense.py": "from . import init\n",
    "layers/init.py": "import constants\n",
    "layers/deep/__init__.py": "",
    "layers/deep/more.py": "",
    "constants.py": "import model\n",
    "data/digits.py": "",
    # none of these is imported, or is Python
    "other.py": "",
    "layers/weights.npy": "",
    "layers/.hidden.py": "",
    "layers/__pycache__/dense.py": "",
    "notes.txt": "",
}
TAKEN = (
    "constants.py", "data/digits.py", "layers/__init__.py", "layers/deep/__init__.py", "layers/deep/more.py",
    "layers/dense.py", "layers/init.py", "model.py", "train.py",
)  # fmt: skip


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "train.py"


def refusal(path: Path) -> str:
    with pytest.raises(ProgramError) as caught:
        bundle(path)
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_modules_that_the_job_imports_from_beside_it_are_bundled(tmp_path: Path) -> None:
    packed = bundle(write(tmp_path, FILES))
    assert packed.files == TAKEN
    assert packed.entry == "train.py"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "one", FILES)
    other = write(tmp_path / "other", dict(reversed(FILES.items())))
    os.utime(other, (1, 1))
    other.chmod(0o700)
    assert bundle(one) == bundle(other)
    other.write_text(FILES["train.py"] + "#")
    assert bundle(one).sha256 != bundle(other).sha256


def test_a_bundle_unpacks_to_the_same_files_again_and_again(tmp_path: Path) -> None:
    packed = bundle(write(tmp_path / "job", FILES))
    for _ in range(2):
        unpack(packed.data, tmp_path / "there" / packed.sha256)
    (tmp_path / "there" / packed.sha256 / "model.py").unlink()
    unpack(packed.data, tmp_path / "there" / packed.sha256)
    assert files_under(tmp_path / "there" / packed.sha256) == {name: FILES[name].encode() for name in TAKEN}
    assert [path.name for path in (tmp_path / "there").iterdir()] == [packed.sha256]
    assert bundle(tmp_path / "there" / packed.sha256 / "train.py") == packed


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.py": "import model\n", "real.py": "x = 1\n"})
    (tmp_path / "model.py").symlink_to("real.py")
    with zipfile.ZipFile(io.BytesIO(bundle(path).data)) as archive:
        assert archive.read("model.py") == b"x = 1\n"


def test_packages_that_contain_themselves_are_finite(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.py": "import nets\n", "nets/__init__.py": ""})
    (tmp_path / "nets" / "again").symlink_to(".")
    assert bundle(path).files == ("nets/__init__.py", "train.py")


@pytest.mark.parametrize("link", ["model.py", "model", "model/deep"])
def test_a_link_that_leads_out_of_the_folder_is_refused(link: str, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"secret.py": "", "__init__.py": ""})
    path = write(tmp_path / "job", {"train.py": "import model\n"})
    if link == "model/deep":
        (tmp_path / "job" / "model").mkdir()
    (tmp_path / "job" / link).symlink_to(tmp_path / "elsewhere" / ("secret.py" if link == "model.py" else ""))
    assert refusal(path).startswith("a job's code lies in its own folder, 'model")


def test_a_job_that_is_itself_such_a_link_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"train.py": ""})
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "train.py").symlink_to(tmp_path / "elsewhere" / "train.py")
    assert refusal(tmp_path / "job" / "train.py").startswith(
        "a job's code lies in its own folder, 'train.py'"
    )


def test_a_pipe_is_not_code(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.py": "import nets\n", "nets/__init__.py": ""})
    os.mkfifo(tmp_path / "nets" / "pipe.py")
    assert refusal(path).startswith("a job's code is regular files, 'nets/pipe.py' is not one")


def test_a_module_that_is_not_python_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.py": "import model\n", "model.py": "x =\n"})
    assert refusal(path).startswith("a job is Python, 'model.py' is not: invalid syntax (line 1 of model.py)")


def test_too_much_code_is_refused(tmp_path: Path) -> None:
    line = "#" * ((4 << 20) - 100) + "\n"
    names = ["a", "b", "c", "d", "e"]
    path = write(tmp_path, {"train.py": "import a, b, c, d, e\n", **{f"{name}.py": line for name in names}})
    assert refusal(path).startswith("a job's code holds at most 16,777,216 bytes, got 20,971,")


def archive(
    entries: dict[str, bytes], mode: int = stat.S_IFREG | 0o644, kind: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = kind
            file.writestr(entry, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        archive({"../out.py": b""}),
        archive({"a/../../out.py": b""}),
        archive({"/out.py": b""}),
        archive({"..\\out.py": b""}),
        archive({"C:out.py": b""}),
        archive({"folder/": b""}),
        archive({"link.py": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777),
        archive({"bomb.py": b"\0" * 1000}, kind=zipfile.ZIP_DEFLATED),
        archive({"large.py": b"\0" * (LIMIT_BYTES + 1)}),
        b"",
        b"PK\x03\x04 and nothing",
    ],
    ids=["up", "through", "root", "backslash", "drive", "folder", "link", "bomb", "large", "empty", "cut"],
)
def test_an_invalid_bundle_leaves_no_trace(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasweep.jobs.code.bundle.DATA_BYTES", 0)
    with pytest.raises(Damaged):
        unpack(data, tmp_path / "into" / "folder")
    assert files_under(tmp_path) == {}


def test_a_folder_that_leads_elsewhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "nets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged, match="leads out of it"):
        unpack(archive({"nets/model.py": b"x"}), tmp_path / "into")
    assert files_under(tmp_path / "elsewhere") == {}


@given(data=st.data())
def test_damaged_bytes_raise_only_damaged(data: Any, tmp_path_factory: Any) -> None:
    whole = bytearray(archive({"train.py": b"import model\n" * 9, "model.py": b"x = 1\n"}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("unpack") / "here"
    try:
        unpack(bytes(whole), folder)
    except Damaged:
        assert not folder.exists()
    assert set(folder.parent.iterdir()) <= {folder}
