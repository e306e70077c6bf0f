"""Fetches a trial's model from the store, with its digest checked and everything known about it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import DestinationError, NoResult, OutOfReach
from kerasweep.jobs.trial import COUNTED
from kerasweep.scheduler.client import report

if TYPE_CHECKING:
    from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
    from kerasweep.jobs.store.models import SweepRecord, TrialRecord

MODEL_FILE, WEIGHTS_FILE, RESULT_FILE = "model.keras", "model.weights.h5", "result.json"


def model_file(model: ArtifactRef) -> str:
    """Return the name of a model's file: weights only if Keras cannot serialise the model."""
    return WEIGHTS_FILE if model.key.endswith(".weights.h5") else MODEL_FILE


def loading_hint(path: Path) -> str | None:
    """Return what loading a fetched model needs beyond its file; None for most."""
    if path.name == WEIGHTS_FILE:
        return (
            "Keras cannot serialise this model: Sweep.load_model() builds it with its job and these weights"
        )
    with contextlib.suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if b'"__lambda__"' in archive.read("config.json"):
            return "it holds a Lambda's code: keras.models.load_model(…, safe_mode=False)"
    return None


def fetch(
    artifacts: Artifacts,
    sweep: SweepRecord,
    trial: TrialRecord,
    model: ArtifactRef | None,
    folder: Path,
    *,
    force: bool = False,
) -> Path:
    """Write the model and `result.json` into a folder; return the model's path.

    The file is `model.keras`, or `model.weights.h5` for a model that Keras cannot serialise.

    Args:
        artifacts: where the model is stored.
        sweep: the sweep.
        trial: the trial whose model is wanted.
        model: its recorded model file, if it has one.
        folder: the destination, created if missing.
        force: write even if the folder holds something else; other files in it stay.

    Raises:
        DestinationError: the folder holds something else, or is not a folder.
        NoResult: the trial has no model.
        Damaged: the model does not match its recorded digest; nothing was written.
        OutOfReach: the artifacts do not respond, or the folder cannot be written.
    """
    model = expect_model(sweep, trial, model)
    prepare(folder, sweep.id, trial.number, force=force)
    target = folder / model_file(model)
    try:
        artifacts.fetch(model.key, model.sha256, target)
    except OSError as exc:
        raise _unwritable(folder, exc) from exc
    write_result(sweep, trial, model, folder)
    return target


def write_result(sweep: SweepRecord, trial: TrialRecord, model: ArtifactRef, folder: Path) -> None:
    """Write `result.json`: what the model is, and how it was trained."""
    write_json(
        folder / RESULT_FILE, report.result_document(sweep, trial, model, version=version("kerasweep"))
    )


def prepare(folder: Path, sweep: str, trial: int, *, force: bool) -> None:
    """Create the folder, or check that it is empty or holds this trial already.

    Raises:
        DestinationError: it holds something else, or is not a folder.
        OutOfReach: it cannot be created.
    """
    if folder.exists() and not folder.is_dir():
        raise DestinationError(f"the destination must be a folder, got the file {folder}\nName another one")
    try:
        held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(folder, exc) from exc
    if held and not force and _fetched(folder / RESULT_FILE) != (sweep, trial):
        shown = ", ".join(held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
        raise DestinationError(
            f"the destination must be empty or hold this same trial, and {folder} holds {shown}\n"
            "Name another folder, or write into this one with force=True (--force)"
        )


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document as JSON, whole or not at all.

    Raises:
        OutOfReach: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as exc:
        raise _unwritable(path.parent, exc) from exc
    finally:
        temporary.unlink(missing_ok=True)


def expect_model(sweep: SweepRecord, trial: TrialRecord, model: ArtifactRef | None) -> ArtifactRef:
    """Return a trial's recorded model.

    Raises:
        NoResult: it has none; the message says why.
    """
    if model is not None:
        return model
    if trial.state not in COUNTED:
        why = f"it failed: {trial.failure.message}" if trial.failure else f"it is {trial.state}"
    else:
        kept = sweep.spec.checkpoints.keep_top
        why = (
            f"only the models of the best {kept} trials are kept\n"
            "To keep more, submit it again with a larger checkpoints: {keep_top: …}"
        )
    raise NoResult(f"trial {trial.number} of sweep {sweep.name} has no model: {why}")


def _fetched(result: Path) -> tuple[str, int] | None:
    """Return which trial a folder was fetched from, according to its `result.json`."""
    try:
        found = json.loads(result.read_text(encoding="utf-8"))
        return found["sweep"], found["trial"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _owner(folder: Path) -> int | None:
    """Return the owner of a folder, or of the nearest existing folder above it."""
    for place in (folder.absolute(), *folder.absolute().parents):
        with contextlib.suppress(OSError):
            return place.stat().st_uid
    return None


def _unwritable(folder: Path, exc: OSError) -> OutOfReach:
    remedy = "Check that the folder is writable and has free space, or name another one."
    owner = _owner(folder)
    if isinstance(exc, PermissionError) and owner is not None and owner != os.geteuid():
        remedy = (
            f"It belongs to user {owner}, and this process is user {os.geteuid()}; run it as that user "
            f"(docker compose run --rm --user {owner} kerasweep fetch …), or name another folder."
        )
    return OutOfReach("The destination", str(folder), remedy, exc.strerror or str(exc))
