"""Files bundled with a job: modules imported by name, data files; and the errors about missing ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kerasweep.jobs.code.bundle import bundle
from kerasweep.jobs.errors import ProgramError, SpecError
from kerasweep.jobs.sweepfile.spec import parse_spec

NETS = {
    "nets/__init__.py": "",
    "nets/small.py": "",
    "nets/large.py": "",
    "other.py": "x = (",
    "other2.py": "",
}


def write(folder: Path, train: str, files: dict[str, str] | None = None) -> Path:
    for name, text in {"train.py": train, **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "train.py"


def taken(path: Path, *files: str) -> set[str]:
    return set(bundle(path, files).files) - {"train.py"}


def refusal(path: Path, *files: str) -> str:
    with pytest.raises(ProgramError) as caught:
        bundle(path, files)
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        'f"nets.{x}"',
        '"nets." + x',
        '"nets.%s" % x',
        '"nets.{}".format(x)',
        '"." + x, package="nets"',
        '"nets.small"',
        'NETS + "." + x',
        'f"{NETS}.{x}"',
    ],
)
def test_a_package_imported_by_name_travels(name: str, tmp_path: Path) -> None:
    job = write(
        tmp_path,
        f'import importlib\nNETS = "nets"\ndef build(x):\n    importlib.import_module({name})\n',
        NETS,
    )
    assert taken(job) == {"nets/__init__.py", "nets/small.py", "nets/large.py"}


def test_modules_with_a_common_prefix_travel(tmp_path: Path) -> None:
    files = {"net_a.py": "", "net_b.py": "", "other.py": ""}
    assert taken(write(tmp_path, '__import__("net_" + name)\n', files)) == {"net_a.py", "net_b.py"}


def test_a_name_without_a_prefix_takes_every_module(tmp_path: Path) -> None:
    files = {
        **NETS,
        "deep/er/one.py": "",
        ".venv/lib/a.py": "",
        "env/pyvenv.cfg": "",
        "env/b.py": "",
        "notes.txt": "",
    }
    assert taken(write(tmp_path, "from importlib import import_module\nimport_module(name)\n", files)) == {
        "nets/__init__.py", "nets/small.py", "nets/large.py", "other.py", "other2.py", "deep/er/one.py",
    }  # fmt: skip


def test_the_folder_data_and_what_files_names_travel(tmp_path: Path) -> None:
    files = {
        "data/a.npz": "a", "data/deep/b.npz": "b", "data/.hidden": "", "points.csv": "1",
        "images/x/1.png": "", "images/x/2.png": "", "notes.txt": "",
    }  # fmt: skip
    job = write(tmp_path, "", files)
    assert taken(job) == {"data/a.npz", "data/deep/b.npz"}
    assert taken(job, "points.csv", "images") == {
        "data/a.npz", "data/deep/b.npz", "points.csv", "images/x/1.png", "images/x/2.png",
    }  # fmt: skip
    assert taken(job, "!data", "images/**/1.*") == {"images/x/1.png"}
    assert taken(job, "!data/deep") == {"data/a.npz"}
    assert bundle(job, ("points.csv",)) == bundle(job, ("points.csv", "points.csv"))


def test_a_pattern_without_matches_is_refused(tmp_path: Path) -> None:
    assert "got 'pionts.csv', which matches none" in refusal(
        write(tmp_path, "", {"points.csv": ""}), "pionts.csv"
    )


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../secret", "a/../../b", "!"])
def test_patterns_stay_in_the_folder(pattern: str) -> None:
    sweep = {
        "name": "a", "job": "train.py", "metric": {"name": "loss", "goal": "minimize"}, "method": "grid",
        "training": {"epochs": 1}, "files": ["fine.csv", pattern],
    }  # fmt: skip
    with pytest.raises(SpecError, match="inside the job's folder"):
        parse_spec(sweep)


def test_data_that_cannot_travel_are_refused_if_the_job_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasweep.jobs.code.travel.DATA_BYTES", 3 << 20)
    job = write(tmp_path, 'x = open(f"data/{name}")\n', {"data/large.bin": "x" * (4 << 20)})
    said = refusal(job)
    assert "at most 3 MB of data travel with a job, these are 4 MB; the largest is 'data/large.bin'" in said
    job.write_text("x = 1\n")
    packed = bundle(job)
    assert packed.files == ("train.py",)
    assert "data/ does not travel" in packed.notes[0]


def test_a_link_out_of_the_folder_is_refused_when_read(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "", {"a.npz": ""})
    job = write(tmp_path / "job", 'np.load("data/a.npz")\n')
    (tmp_path / "job" / "data").symlink_to(tmp_path / "elsewhere")
    assert refusal(job).startswith("a job's data lies in its own folder, 'data' leads to")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    job = write(tmp_path, "", {"points.csv": ""})
    (tmp_path / "points.csv").chmod(0)
    assert "'points.csv' cannot be" in refusal(job, "points.csv")


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        ('def load_data():\n    return np.load("points.npz")\n', "points.npz"),
        ('def load_data():\n    return pd.read_csv(Path(__file__).parent / "points.npz")\n', "points.npz"),
        (
            'D = os.path.dirname(os.path.abspath(__file__))\nx = open(os.path.join(D, "points.npz"))\n',
            "points.npz",
        ),
        ('def load_data():\n    return Path("points.npz").read_bytes()\n', "points.npz"),
        ('def load_data():\n    return tail()\ndef tail():\n    open("points.npz", "rb")\n', "points.npz"),
        ('def load_data():\n    return keras.utils.image_dataset_from_directory("images")\n', "images/**"),
        ('def load_data():\n    return [imread(f"images/{i}.png") for i in x]\n', "images/**"),
        (
            'def load_data():\n    return Path(__file__).parent.joinpath("images").glob("*.png")\n',
            "images/**",
        ),
    ],
)
def test_an_opened_file_that_does_not_travel_is_refused(source: str, pattern: str, tmp_path: Path) -> None:
    job = write(tmp_path, source, {"points.npz": "", "images/1.png": ""})
    said = refusal(job)
    assert f'add `files: ["{pattern}"]` to the sweep file' in said
    assert "of train.py" in said
    assert taken(job, pattern)


@pytest.mark.parametrize(
    "source",
    [
        'if __name__ == "__main__":\n    open("points.npz")\n',
        'def by_hand():\n    return np.load("points.npz")\n',
        'def load_data():\n    np.savez("points.npz", x=1)\n    return np.load("points.npz")\n',
        'def load_data():\n    return np.load("/mnt/points.npz")\n',
        'def load_data():\n    return np.load("missing.npz")\n',
        'def load_data():\n    return open("points.npz", "w")\n',
        "def load_data():\n    return np.load(path)\n",
        'def load_data():\n    return pd.read_csv("https://example.org/points.npz")\n',
    ],
)
def test_files_that_no_trial_needs_are_ignored(source: str, tmp_path: Path) -> None:
    assert taken(write(tmp_path, source, {"points.npz": ""})) == set()


def test_a_file_that_is_probed_is_noted(tmp_path: Path) -> None:
    source = 'def load_data():\n    if os.path.exists("cache.npz"):\n        return np.load("cache.npz")\n'
    packed = bundle(write(tmp_path, source, {"cache.npz": ""}))
    assert packed.files == ("train.py",)
    assert '`files: ["cache.npz"]`' in packed.notes[0]
