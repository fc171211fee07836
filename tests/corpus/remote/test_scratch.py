"""A working folder vanishes with its process; those of processes that were killed are swept, those in use are not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from corpus.remote.scratch import held, scratch, sweep

HOLD = """
import sys, time
from pathlib import Path
from corpus.remote.scratch import scratch
with scratch(Path(sys.argv[1]), "work") as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_a_folder_that_the_next_sweeps_and_a_living_one_keeps_its_own(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    theirs = Path(process.stdout.readline().strip())
    with scratch(tmp_path, "work") as ours:
        assert theirs.is_dir() and ours.is_dir() and ours != theirs
    assert not ours.exists() and (theirs / "file").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with scratch(tmp_path, "work") as ours:
        assert not theirs.exists() and list(tmp_path.iterdir()) == [ours]


def test_who_waits_for_a_folder_gets_it_anew_after_it_was_renamed(tmp_path):
    folder, order = tmp_path / "a", []

    def wait() -> None:
        with held(folder):
            order.append(folder.exists())

    with held(folder):
        thread = threading.Thread(target=wait)
        thread.start()
        (folder / "file").touch()
        folder.rename(tmp_path / "b")
        order.append("renamed")
    thread.join()
    assert order[0] in ("renamed", True) and True in order
    assert (tmp_path / "b" / "file").exists()


def test_only_what_nobody_holds_is_swept(tmp_path):
    (tmp_path / "free").mkdir()
    with held(tmp_path / "taken"):
        sweep(tmp_path.iterdir())
        assert [path.name for path in tmp_path.iterdir()] == ["taken"]
