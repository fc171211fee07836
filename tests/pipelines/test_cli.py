"""The command answers at once, tells what was wrong in a line, and exits with 0 only when nothing is missing."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import cli, options

ROOT = Path(__file__).resolve().parents[2]
LOOM = [sys.executable, "-m", "pipelines.cli"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motion_folder) -> Path:
    return motion_folder(tmp_path_factory.mktemp("files") / "robot", 3)


@pytest.fixture(scope="module")
def built(tmp_path_factory, folder) -> Path:
    out = tmp_path_factory.mktemp("built") / "corpus"
    assert cli.main(["build", "--source", f"robot={folder}", "--out", str(out), "--scheduler", "inline"]) == 0
    return out


def loom(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*LOOM, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, **options)


def test_help_loads_nothing_heavy():
    heavy = (
        "numpy",
        "dask",
        "distributed",
        "mujoco",
        "polars",
        "warp",
        "pyarrow",
        "zarr",
        "scipy",
        "rich",
        "pinocchio",
    )
    code = (
        "import contextlib, sys; from pipelines import cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        "with contextlib.suppress(SystemExit): cli.main(['build', '--help'])\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.endswith("loaded: []\n")
    assert all(name in done.stdout for name in ("scan", "build", "retarget", "info", "verify", "demo", "--body-models"))


def test_the_help_names_the_sources_there_are():
    from corpus.sources import SOURCES

    assert list(SOURCES) == list(options.SOURCE_NAMES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--source", "amas=.", "--out", "OUT"], "No source named 'amas'. Known: amass, bvh"),
        (["build", "--source", "amass", "--out", "OUT"], "Expected SOURCE=DIR, not 'amass'."),
        (["build", "--source", "robot=a", "--source", "robot=b", "--out", "OUT"], "Source robot is given twice"),
        (["build", "--source", "robot=no/such", "--out", "OUT"], "is not a folder"),
        (
            ["build", "--source", "robot=.", "--out", "OUT", "--set", "gate.none=1"],
            "no choice 'gate.none'. Known: cut.",
        ),
        (["build", "--source", "robot=.", "--out", "OUT", "--recipe", "none.json"], "none.json cannot be read"),
        (["build", "--source", "robot=.", "--out", "OUT", "--skeleton", "none.toml"], "none.toml does not exist"),
        (["build", "--source", "robot=.", "--out", "OUT", "--worker-memory", "lots"], "'lots' is no amount of memory"),
        (["build", "--source", "robot=.", "--out", "OUT", "--worker-memory=-1GB"], "A worker cannot live on -1GB"),
        (["build", "--source", "robot=.", "--out", "OUT", "--worker-memory", "1kB"], "give it 512 MiB or more"),
        (
            ["build", "--source", "robot=.", "--out", "OUT", "--worker-memory", "2GB", "--scheduler", "tcp://a:1"],
            "`dask worker --memory-limit`",
        ),
        (
            ["build", "--source", "robot=.", "--out", "OUT", "--report", "r.html", "--scheduler", "inline"],
            "A performance report tells of workers",
        ),
        (["build", "--source", "robot=.", "--out", "/proc/OUT"], "/proc/OUT cannot be written: "),
        (["build", "--source", "robot=.", "--out", "/dev/null/OUT"], "/dev/null/OUT cannot be written: "),
        (["build", "--source", "robot=.", "--out", "OUT", "--report", "/dev/null/r.html"], "no place for a report"),
        (["demo", "--out", "/dev/null/OUT"], "/dev/null/OUT: Not a directory"),
        (["demo", "--out", "/dev/null"], "/dev/null: File exists"),
        (["merge", "s3://a/b", "c", "--out", "OUT"], "s3://a/b: a merge is made of folders"),
        (["info", "OUT"], "OUT is no corpus: it has no corpus.json."),
        (["verify", "OUT"], "OUT is no corpus"),
        (["scan", "no/such"], "no/such is not a folder"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_right(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and error.startswith("loom: ")


def test_a_full_disk_is_one_line_wherever_it_is_met(folder, tmp_path, monkeypatch, capsys):
    from pipelines import plan

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(plan, "replace_file", full)
    assert cli.main(["build", "--source", f"robot={folder}", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "loom: the disk: No space left on device\n"


def test_build_a_second_time_says_there_is_nothing_to_do(folder, built, capsys):
    assert cli.main(["build", "--source", f"robot={folder}", "--out", str(built)]) == 0
    assert "nothing to do: all 1 shards of" in capsys.readouterr().out


def test_nothing_to_do_is_said(folder, built):
    done = loom("build", "--source", f"robot={folder}", "--out", built)
    assert done.returncode == 0 and "nothing to do" in done.stdout and "shards to build" not in done.stderr


def test_a_shard_that_fails_is_named_and_the_exit_code_is_1(folder, tmp_path, monkeypatch, capsys):
    from pipelines import clips

    def buggy(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(clips, "_recorded_on_robot", buggy)
    arguments = ["build", "--source", f"robot={folder}", "--out", str(tmp_path / "out"), "--scheduler", "inline"]
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: a bug (in robot:" in error and "1 shards are missing" in error
    assert "Traceback" not in error
    assert cli.main([*arguments, "--traceback"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_choices_of_the_command_line_reach_the_recipe():
    text = "build --source robot=. --out x --min-s 2 --max-s 9 --foot-slide 0.5 --quat xyzw --fps 40 --set cut.max_s=8"
    recipe, load = options.recipe_options(cli.build_parser().parse_args(text.split()))
    assert (recipe.cut.min_s, recipe.cut.max_s, recipe.gate.foot_slide_limit) == (2.0, 8.0, 0.5)
    assert (load.quaternion, load.fps) == ("xyzw", 40.0)


def test_a_recipe_file_sets_defaults_that_options_override(tmp_path):
    (tmp_path / "r.json").write_text('{"cut": {"max_s": 9}, "load": {"quaternion": "wxyz", "fps": 25}}')
    text = f"build --source robot=. --out x --recipe {tmp_path / 'r.json'} --fps 40"
    recipe, load = options.recipe_options(cli.build_parser().parse_args(text.split()))
    assert recipe.cut.max_s == 9.0 and (load.quaternion, load.fps) == ("wxyz", 40.0)


def test_info_tells_how_the_headline_number_is_made_up(built, capsys):
    assert cli.main(["info", str(built)]) == 0
    told = capsys.readouterr().out
    assert "robot" in told and "all" in told and all(word in told for word in ("virtual", "loaded", "passed"))
    assert all(reason in told for reason in ("duplicate_file", "empty_file", "not_finite", "not_motion"))


def test_a_flipped_bit_is_found_set_aside_and_mended(folder, built, tmp_path, capsys):
    import shutil

    assert cli.main(["verify", str(built)]) == 0
    assert "whole" in capsys.readouterr().out
    out = Path(shutil.copytree(built, tmp_path / "corpus"))
    target = max((p for p in (out / "shards").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(target.read_bytes())
    data[100] ^= 4
    target.write_bytes(data)
    assert cli.main(["verify", str(out)]) == 1
    streams, shard = capsys.readouterr(), target.relative_to(out / "shards").parts[0]
    assert shard in streams.err and "1 trouble" in streams.out
    assert cli.main(["repair", str(out)]) == 1
    streams = capsys.readouterr()
    assert f"{shard} set aside" in streams.out and "name the sources" in streams.err
    assert cli.main(["repair", str(out), "--source", f"robot={folder}", "--scheduler", "inline"]) == 0
    assert "built 1 of" in (told := capsys.readouterr().out) and "whole" in told
    assert cli.main(["gc", str(out)]) == cli.main(["gc", str(out), "--delete"]) == 0
    told = capsys.readouterr().out
    assert f"quarantine/{shard}.0" in told and "found 1" in told and "deleted 1" in told


def test_corpora_grow_and_merge(built, tmp_path, capsys, motion_folder):
    import shutil

    more, out = motion_folder(tmp_path / "more", 1, first=30), Path(shutil.copytree(built, tmp_path / "corpus"))
    assert cli.main(["append", str(out), "--source", f"robot={more}", "--scheduler", "inline"]) == 0
    assert "built 1 of 2 shards" in capsys.readouterr().out
    assert cli.main(["merge", str(built), str(out), "--out", str(tmp_path / "merged")]) == 0
    assert "2 shards taken over, 0 written anew" in capsys.readouterr().out
    assert cli.main(["verify", str(tmp_path / "merged")]) == 0


def test_scan_counts_files_and_guesses_who_could_read_them(folder, capsys):
    assert cli.main(["scan", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "robot?" in told and ".csv" in told and ".txt" in told and "–" in told
    assert cli.main(["scan", f"robot={folder}"]) == 0
    assert "robot?" not in capsys.readouterr().out


def test_demo_gets_its_folder_and_sources(monkeypatch):
    seen = []
    monkeypatch.setitem(sys.modules, "pipelines.demo", SimpleNamespace(main=lambda *given: seen.append(given)))
    import pipelines

    monkeypatch.setattr(pipelines, "demo", sys.modules["pipelines.demo"], raising=False)
    assert cli.main(["demo", "--out", "here", "--data", "amass=there"]) == 0
    assert seen == [(Path("here"), {"amass": Path("there")})]


@pytest.mark.slow
def test_ctrl_c_stops_with_130_and_the_next_run_goes_on(tmp_path, motion_folder):
    """The signal goes to the whole process group, as a terminal sends it: workers get it too."""
    files = motion_folder(tmp_path / "files", 16, seconds=240)
    command = [*LOOM, "build", "--source", f"robot={files}", "--out", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    shards = tmp_path / "out" / "shards"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not list(shards.glob("[0-9a-f]*")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    start = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED, error
    assert "stopped; run the same command to go on" in error and "Traceback" not in error, error
    assert time.monotonic() - start < 15
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    built = int(done.stdout.split("built ")[1].split()[0])
    assert 0 < built < len(list(shards.glob("[0-9a-f]*")))
    assert loom("verify", tmp_path / "out").returncode == 0


def every_command(parser: argparse.ArgumentParser, path: str = "loom") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Of those that end a line; `loom train` alone does not."""
    known = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not known:
        yield path, parser
    for name, one in [item for action in known for item in action.choices.items()]:
        yield from every_command(one, f"{path} {name}")


def test_every_command_can_be_run():
    found = dict(every_command(cli.build_parser()))
    assert {"loom build", "loom train demo", "loom deploy run", "loom deploy export", "loom stream"} <= set(found)
    for path, parser in found.items():
        assert callable(parser.get_default("run")), path
        assert "run" not in {action.dest for action in parser._actions}, f"{path}: an option hides what is to be run"
