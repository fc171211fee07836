"""The command line's options: what can be said, and what it means."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError

SOURCE_NAMES = ("amass", "lafan1", "motionx", "phuma", "bvh", "robot", "recordings", "synthetic")
"""The keys of `corpus.sources.SOURCES`, repeated here because reading them there takes a second."""


def add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=place, metavar="OUT", help="a corpus: a folder or s3://bucket/folder")
    _add_cache(parser)


def _add_cache(parser: argparse.ArgumentParser) -> None:
    about = "where copies of what lies on object storage are kept (default ~/.cache/motionloom)"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=about)


def add_build_options(parser: argparse.ArgumentParser) -> None:
    _add_source_option(parser, required=True)
    parser.add_argument(
        "--out", type=place, required=True, metavar="OUT", help="the corpus: a folder or s3://bucket/folder"
    )
    add_running_options(parser)
    _add_recipe_options(parser)


def add_growing_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Options of commands that build by the recipe of the corpus."""
    parser.add_argument("out", type=place, metavar="OUT", help="a corpus: a folder or s3://bucket/folder")
    _add_source_option(parser, required=required)
    add_running_options(parser)
    _add_reading_options(parser)


def _add_source_option(parser: argparse.ArgumentParser, *, required: bool) -> None:
    text = f"may be repeated; sources: {', '.join(SOURCE_NAMES)}"
    parser.add_argument("--source", action="append", required=required, default=[], metavar="SOURCE=DIR", help=text)


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """Where and how tasks run: what `running_options` reads."""
    _add_cache(parser)
    add = parser.add_argument
    add("--workers", type=positive, metavar="N", help="processes on this machine (default: one per core)")
    add("--scheduler", default="local", metavar="local|tcp://…", help="where tasks run: here, or a Dask scheduler")
    add(
        "--worker-memory",
        metavar="SIZE",
        help="most memory of a worker on this machine, as in 2GB; beyond, it is killed",
    )
    add("--report", type=Path, metavar="FILE.html", help="write Dask's performance report")
    add("--traceback", action="store_true", help="show where failed tasks failed")


def add_rehearse_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--frames", type=_number, required=True, metavar="N", help="size of the corpus, as in 2e9")
    add("--clips", type=_number, metavar="N", help="in how many clips (default: one for every 400 frames)")
    add("--cores", type=positive, default=1000, metavar="N", help="of the cluster to reckon for (default 1000)")
    add("--frames-per-core-second", type=_rate, metavar="F", help="default: measured by a small build, here and now")
    add("--work", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR", help="where temporary files may lie")
    add("--keep", action="store_true", help="leave them there")


def add_retarget_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a file that a source reads")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="NAME.csv (Unitree's columns) or NAME.npz (BeyondMimic's)",
    )
    add("--source", metavar="NAME", help=f"who reads it, instead of the first that can: {', '.join(SOURCE_NAMES)}")
    add("--part", metavar="PART", help="which motion of a file that holds several (default the first)")
    add("--frames", type=Path, metavar="FILE.parquet", help="write all measures frame by frame, by body")
    add("--view", action="store_true", help="draw poses beside OUT, and play them where there is a display")
    _add_recipe_options(parser)


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    """How files are read: what `reading_options` reads."""
    files = parser.add_argument_group("files")
    files.add_argument("--body-models", type=Path, metavar="DIR", help="your SMPL-X or SMPL-H files (smplx layout)")
    files.add_argument("--skeleton", type=Path, metavar="FILE", help="TOML or JSON that maps a BVH skeleton's joints")
    files.add_argument("--quat", choices=("auto", "wxyz", "xyzw"), help="quaternion order in robot CSV files")
    files.add_argument("--fps", type=_rate, metavar="HZ", help="frame rate of files that carry none")


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """How files are read and what is kept: what `recipe_options` reads."""
    _add_reading_options(parser)
    choice = parser.add_argument_group("what is kept")
    choice.add_argument("--recipe", type=Path, metavar="FILE", help="JSON with any choices, or a corpus.json")
    choice.add_argument("--min-s", type=float, metavar="S", help="shortest segment [s]")
    choice.add_argument("--max-s", type=float, metavar="S", help="longest segment [s]")
    choice.add_argument("--foot-slide", type=float, metavar="M/S", help="most foot slide of a segment that is kept")
    choice.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other choice, as in gate.penetration_limit=0.03",
    )


def running_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "scheduler": options.scheduler,
        "workers": options.workers,
        "worker_memory": options.worker_memory,
        "report": options.report,
        "cache": options.cache,
        "progress": True,
    }


def recipe_options(options: argparse.Namespace) -> tuple[Any, Any]:
    """The recipe and the readers' options that the command line asks for."""
    from pipelines.recipe import Recipe, with_choice

    recipe = Recipe()
    if options.recipe is not None:
        recipe = Recipe.from_json(_read(options.recipe))
    named = {"cut.min_s": options.min_s, "cut.max_s": options.max_s, "gate.foot_slide_limit": options.foot_slide}
    chosen = [(name, json.dumps(value)) for name, value in named.items() if value is not None]
    for name, value in [*chosen, *(_pair(text, "NAME=VALUE") for text in options.set)]:
        recipe = with_choice(recipe, name, value)
    return recipe, reading_options(options, recipe)


def reading_options(options: argparse.Namespace, recipe) -> Any:
    """The readers' options: those given, else the recipe's."""
    from corpus.sources.options import LoadOptions

    return LoadOptions(
        body_models=options.body_models,
        skeleton=options.skeleton,
        quaternion=options.quat or recipe.load.quaternion,
        fps=recipe.load.fps if options.fps is None else options.fps,
    )


def source_folders(texts: Sequence[str]) -> dict[str, Path]:
    sources: dict[str, Path] = {}
    for text in texts:
        name, folder = _pair(text, "SOURCE=DIR")
        if name not in SOURCE_NAMES:
            raise MotionloomError(f"No source named {name!r}. Known: {', '.join(sorted(SOURCE_NAMES))}.")
        if name in sources:
            raise MotionloomError(f"Source {name} is given twice: put both folders into one and name that.")
        sources[name] = Path(folder)
    return sources


def source_folder(text: str) -> tuple[Path, str | None]:
    """DIR or SOURCE=DIR; a folder whose name holds "=" is a folder."""
    name, _, folder = text.partition("=")
    if folder and not Path(text).is_dir():
        return source_folders([text])[name], name
    return Path(text), None


def _pair(text: str, form: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise MotionloomError(f"Expected {form}, not {text!r}.")
    return name, value


def place(text: str) -> Path | str:
    """A folder; a URL stays text, since a `Path` would take one of its slashes away."""
    return text if "://" in text else Path(text)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def seed(text: str) -> int:
    """What all generators of random numbers take."""
    value = int(text)
    if not 0 <= value < 1 << 32:
        raise argparse.ArgumentTypeError("must be from 0 to 4294967295")
    return value


def _number(text: str) -> int:
    """A whole number, also as 2e9."""
    value = float(text)
    if not 1 <= value <= 1e13:
        raise argparse.ArgumentTypeError("must be from 1 to 1e13")
    return int(value)


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise MotionloomError(f"{path} cannot be read: {error}.") from None
