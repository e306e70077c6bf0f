"""`make chaos`: runs sweeps under faults and compares them with undisturbed ones.

make chaos CHAOS="--seed 1 --faults 100 --store postgres"
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' own modules are not installed

#: Over which share of the epochs the faults are dealt; with halving, the rest waits for the trial held back.
_SHARES = {"plain": 0.75, "halving": 0.4}


def main() -> int:
    """Run the rounds given by the flags; return 0 if all of them ended well."""
    from chaos import measure, rounds

    flags = _flags()
    folder = Path(flags.folder or tempfile.mkdtemp(prefix="kerasweep-chaos-"))
    good = True
    for name in ("plain", "halving") if flags.faults else ():
        file = rounds.write_job(folder / name / "job", small=flags.small, halving=name == "halving")
        _tell(f"{name}:")
        good &= _run_rounds(folder / name, file, flags)
    if flags.measure:
        good &= measure.measure(folder, _tell)
    if good and not flags.folder:
        shutil.rmtree(folder)
    else:
        _tell(f"logs and records: {folder}")
    return 0 if good else 1


def _run_rounds(folder: Path, file: Path, flags: argparse.Namespace) -> bool:
    from chaos import rounds

    good = True
    reference = rounds.run_reference(folder / "left-alone", file, _tell)
    kinds = ("sqlite", "postgres") if flags.store == "both" else (flags.store,)
    for kind in kinds:
        _tell(f"{kind}: {flags.faults} faults, seed {flags.seed}")
        options = {"kind": kind, "seed": flags.seed, "faults": flags.faults, "tell": _tell}
        share = _SHARES[file.parent.parent.name]
        verdict = rounds.run_disturbed(folder / kind, file, reference, share=share, **options)
        good &= verdict.good
        _report(verdict, reference)
    return good


def _report(verdict: Any, reference: Any) -> None:
    once = [line for line in verdict.findings if line.startswith("every_trial_once")]
    double = sum("was completed 2 times" in line for line in once)
    lost = len(once) - double
    for line in [*verdict.findings, *verdict.differences]:
        _tell(f"   {line}")
    _tell(
        f"{verdict.store}: {sum(verdict.faults.values())} faults, {reference.trials} trials, "
        f"{verdict.attempts} attempts, {verdict.seconds:.0f} s ({reference.seconds:.0f} s left alone); "
        f"lost {lost}, double {double}, other findings {len(verdict.findings) - lost - double}, "
        f"table {'differs' if verdict.differences else 'identical'}"
    )


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the row of faults")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--store", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--small", action="store_true", help="16 trials in place of 48")
    parser.add_argument(
        "--measure",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="how soon training goes on after a kill, and what checkpoints and leases cost",
    )
    parser.add_argument("--folder", default=None, help="keep everything here")
    return parser.parse_args()


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
