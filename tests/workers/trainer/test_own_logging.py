"""What a trial sets of Python's logging, and of the streams, is its own: beside others and after its end."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Beside = Callable[..., list[str]]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def beside(where: Path) -> Iterator[Beside]:
    """Runs programs at once; returns what each printed."""
    command = [sys.executable, str(Path(__file__).with_name("beside.py")), str(where)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*programs: str) -> list[str]:
            process.stdin.write(json.dumps([textwrap.dedent(program) for program in programs]) + "\n")
            process.stdin.flush()
            printed: list[str] = json.loads(process.stdout.readline())
            assert not any("Traceback" in one for one in printed), "\n".join(printed)
            return printed

        yield run
        process.stdin.close()


NEIGHBOUR = """
    log = logging.getLogger("train")
    log.setLevel(logging.INFO)
    log.addHandler(logging.FileHandler(f"neighbour{number}.log"))
    meet()
    meet()
    log.info("one"); log.warning("two")
    logging.getLogger("fresh").warning("three")
    print(open(f"neighbour{number}.log").read().split(), log.level, len(log.handlers), log.isEnabledFor(10))
"""
UNDISTURBED = "three\n['one', 'two'] 20 1 False"


@pytest.mark.parametrize(
    "settings",
    [
        "log.addHandler(logging.FileHandler('other.log')); log.setLevel(logging.DEBUG); log.debug('mine')",
        "log.propagate = False; log.disabled = True; log.handlers = []",
        "log.addFilter(lambda record: False); log.filters.append(logging.Filter('x'))",
        "logging.disable(logging.CRITICAL)",
        "logging.getLogger().setLevel('CRITICAL'); logging.getLogger().addHandler(logging.NullHandler())",
        "logging.basicConfig(level=50, force=True, filename='other.log')",
        "log.addHandler(logging.NullHandler()); logging.shutdown()",
        "import logging.config; logging.config.dictConfig({'version': 1})",
        "logging.config.fileConfig('silent.ini')",
        "logging.setLogRecordFactory(lambda *a, **k: None); logging.addLevelName(30, 'OTHER')",
        "logging.setLoggerClass(type('Silent', (logging.Logger,), {'handle': lambda *_: None}))",
    ],
)
def test_what_a_trial_sets_reaches_no_other(beside: Beside, where: Path, settings: str) -> None:
    (where / "silent.ini").write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=none\n[formatters]\nkeys=\n"
        "[logger_root]\nlevel=CRITICAL\nhandlers=none\n[handler_none]\nclass=NullHandler\nargs=()\n"
    )
    for path in where.glob("neighbour*.log"):
        path.unlink()
    other = f"import logging.config\nlog = logging.getLogger('train')\nmeet()\n{settings}\nmeet()\n"
    found = beside(NEIGHBOUR, other, NEIGHBOUR)
    assert [found[0], found[2]] == [UNDISTURBED, UNDISTURBED]


def test_three_trials_with_dict_config_each_log_to_their_own_file(beside: Beside, where: Path) -> None:
    program = """
        import logging.config
        early = logging.getLogger("early.one")
        meet()
        logging.config.dictConfig({
            "version": 1,
            "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
            "handlers": {"file": {
                "class": "logging.FileHandler", "filename": f"dict{number}.log", "mode": "w",
                "formatter": "plain",
            }},
            "loggers": {"train": {"level": "DEBUG", "handlers": ["file"], "propagate": False}},
            "root": {"level": "INFO", "handlers": ["file"]},
        })
        meet()
        log = logging.getLogger("train")
        log.debug("number %s", number)
        logging.getLogger("train.child").debug("child")
        logging.getLogger("later").info("root")
        early.error("silenced by its own trial")
        meet()
        print(early.disabled, logging.getLogger("later").disabled, logging.getLogger("shared").disabled)
        print(open(f"dict{number}.log").read())
    """
    for number, printed in enumerate(beside(program, program, program)):
        assert printed.splitlines() == [
            "True False True",
            *(f"DEBUG train number {number}", "DEBUG train.child child", "INFO later root"),
        ]


def test_nothing_is_left_after_the_end(beside: Beside) -> None:
    first = """
        import atexit
        handler = logging.FileHandler("ended.log", mode="w")
        logging.getLogger("train").addHandler(handler)
        logging.getLogger("shared").setLevel(50)
        logging.getLogger("shared").handlers[0].setLevel(50)
        logging.disable(50)
        logging.addLevelName(5, "TRACE")
        logging.captureWarnings(True)
        logging.getLogger("train.deep")
        print(sorted(set(logging.root.manager.loggerDict) & {"train", "train.deep", "shared"}))
    """
    then = """
        import warnings
        log, shared = logging.getLogger("train"), logging.getLogger("shared")
        print(sorted(set(logging.root.manager.loggerDict) & {"train.deep", "shared"}), log.handlers)
        print(shared.level, shared.handlers[0].level, shared.isEnabledFor(30), logging.getLevelName(5))
        warnings.warn("a warning")
    """
    assert beside(first) == ["['shared', 'train', 'train.deep']"]
    [printed] = beside(then)
    assert printed.splitlines()[:2] == ["['shared'] []", "0 0 True Level 5"]
    assert "UserWarning: a warning" in printed


def test_classes_levels_factories_and_warnings_are_each_trial_s_own(beside: Beside) -> None:
    program = """
        import warnings
        class Own(logging.Logger):
            trial = number
        class Record(logging.LogRecord):
            def getMessage(self):
                return f"{number}: {super().getMessage()}"
        logging.addLevelName(25, f"NOTE{number}")
        logging.setLoggerClass(Own)
        logging.setLogRecordFactory(Record)
        logging.captureWarnings(number == 0)
        logging.basicConfig(format="%(levelname)s %(message)s", level=25)
        meet()
        log = logging.getLogger("own")
        log.log(25, "noted")
        warnings.warn("captured?")
        meet()
        print(log.trial, logging.getLoggerClass() is Own, logging.getLogRecordFactory() is Record)
    """
    for number, printed in enumerate(beside(program, program)):
        lines = printed.splitlines()
        assert lines[0] == f"NOTE{number} {number}: noted"
        assert lines[-1] == f"{number} True True"
        assert ("WARNING 0: train.py" in printed) == (number == 0)
        assert "UserWarning: captured?" in printed


def test_a_library_s_loggers_are_shared_and_what_trials_set_on_them_is_not(
    beside: Beside, where: Path
) -> None:
    (where / "talker.py").write_text(
        "import logging\nlog = logging.getLogger(__name__)\nlog.setLevel(logging.WARNING)\n"
        "log.addHandler(logging.NullHandler())\n"
        "def talk():\n    log.info('low')\n    log.error('high')\n"
    )
    program = """
        import io
        text = io.StringIO()
        if number == 0:  # before the library is imported for the first time
            before = logging.getLogger("talker")
            before.addHandler(logging.StreamHandler(text))
            meet()
            import talker
            meet()
            assert talker.log is before is logging.getLogger("talker")
            before.setLevel(logging.INFO)
        else:
            meet(); meet()
            import talker
            talker.log.addHandler(logging.StreamHandler(text))
        meet()
        talker.talk()
        print(text.getvalue().split(), talker.log.level, talker.log.handlers[0], talker.log.parent.name)
    """
    found = beside(program, program)
    assert found[0].startswith("['low', 'high'] 20 <StreamHandler")
    assert found[1].startswith("['high'] 30 <NullHandler")
    [after] = beside("import talker; print(talker.log.level, talker.log.handlers, talker.log.parent.name)")
    assert after == "30 [<NullHandler (NOTSET)>] root"


def test_the_hierarchy_is_each_trial_s_own(beside: Beside) -> None:
    program = """
        names = ["tree.a.b", "tree.a", "tree"] if number else ["tree", "tree.a.b"]
        for name in names:
            logging.getLogger(name)
            meet()
        if number == 0:
            meet()
        parents = []
        log = logging.getLogger("tree.a.b")
        while log is not None:
            parents.append(log.name)
            log = log.parent
        print(parents)
    """
    assert beside(program, program) == [
        "['tree.a.b', 'tree', 'root']",
        "['tree.a.b', 'tree.a', 'tree', 'root']",
    ]


def test_threads_adapters_and_copies_use_the_trial_s_logger(beside: Beside) -> None:
    program = """
        import _thread, copy, io, pickle, threading
        text = io.StringIO()
        log = logging.LoggerAdapter(logging.getLogger("adapted"), {"who": number})
        log.logger.addHandler(logging.StreamHandler(text))
        log.logger.handlers[0].setFormatter(logging.Formatter("%(who)s %(message)s"))
        meet()
        thread = threading.Thread(target=log.warning, args=("from a thread",))
        thread.start(); thread.join()
        log.setLevel(logging.INFO)
        log.isEnabledFor(logging.INFO)
        done = threading.Event()
        # As from a thread of TensorFlow, of which nobody knows whose it is.
        _thread.start_new_thread(lambda: (log.info("from elsewhere"), done.set()), ())
        assert done.wait(60)
        meet()
        assert copy.deepcopy(log.logger) is log.logger is pickle.loads(pickle.dumps(log.logger))
        print(text.getvalue(), end="")
    """
    assert beside(program, program) == [
        f"{number} from a thread\n{number} from elsewhere" for number in (0, 1)
    ]


def test_what_was_set_is_seen_so_that_each_trial_loads_its_data(beside: Beside) -> None:
    changes = (
        "logging.getLogger('train').setLevel(10)",
        "logging.getLogger('shared').disabled = True",
        "logging.basicConfig()",
        "logging.root.handlers[0].setLevel(50)",
        "logging.disable(10)",
        "logging.captureWarnings(True)",
        "logging.setLoggerClass(type('Own', (logging.Logger,), {}))",
    )
    program = "\n".join(
        [
            "logging.getLogger('train').info('x'); before = settings()",
            "logging.getLogger('train').info('x'); logging.getLogger('new').info('x')",
            "print(settings() == before)",
            *(f"before = settings(); {change}; print(settings() == before)" for change in changes),
        ]
    )
    [printed] = beside(program)
    assert printed.split() == ["True", *["False"] * len(changes)]


def test_kerasweep_s_own_log_is_no_job_s(beside: Beside) -> None:
    [printed] = beside("""
        import logging.config
        from kerasweep.workers.trainer.process import own_logging
        ours = logging.getLogger("kerasweep.workers")
        logging.basicConfig(level=10, format="mine %(message)s")
        logging.disable(50)
        ours.info("low"); ours.warning("high")
        print([name for name in logging.root.manager.loggerDict if name.startswith("kerasweep")])
    """)
    assert printed.split() == ["high", "[]"]


def test_streams_are_each_trial_s_own(beside: Beside, where: Path) -> None:
    program = """
        import contextlib, io, sys
        class Tee:
            def __init__(self):
                self.screen, self.file = sys.stdout, open(f"tee{number}.txt", "w")
            def write(self, text):
                self.screen.write(text); self.file.write(text)
            def flush(self):
                self.file.flush()
        if number:
            sys.stdout = Tee()
        meet()
        print("line", number)
        with contextlib.redirect_stdout(io.StringIO()) as text:
            meet()
            print("hidden", number)
            meet()
        assert text.getvalue() == f"hidden {number}\\n"
        sys.stdout.flush()
        sys.stdout = None
        print("nowhere")
    """
    assert beside(program, program) == ["line 0", "line 1"]
    assert (where / "tee1.txt").read_text() == "line 1\n"
    assert beside("print('after')") == ["after"]
