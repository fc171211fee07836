"""The command `loom`: scan, build, append, merge, repair, gc, retarget, info, verify, rehearse, demo.

Heavy modules are imported inside the commands that need them, so that `loom --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError

SOURCE_NAMES = ("amass", "lafan1", "motionx", "phuma", "bvh", "robot", "synthetic")
"""The keys of `corpus.sources.SOURCES`, repeated here because reading them there takes a second."""

INTERRUPTED = 130
"""Exit code after ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 only when nothing is missing."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    for name in ("pipelines", "corpus"):
        logging.getLogger(name).setLevel(logging.INFO)
    with contextlib.suppress(ValueError):  # not the main thread: leave signals to whoever runs us
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.run(options)
    except MotionloomError as error:
        print(f"loom: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `loom info | head`
        sys.stderr.close()
        return 0


def scan(options: argparse.Namespace) -> int:
    """Print what lies in folders: files by extension, their size, about how many frames, and who could read them."""
    from pipelines.survey import survey

    rows = [row for place in options.folders for row in survey(*_folder(place))]
    columns = ["folder", "source", "extension", "files", "size", "frames (about)", "hours (about)"]
    _table(columns, [_survey_cells(row) for row in rows], numeric=columns[3:])
    return 0


def build(options: argparse.Namespace) -> int:
    """Make a corpus, or complete one."""
    from pipelines.build import build as make

    recipe, load = _recipe(options)
    return _tell(make(_sources(options.source), options.out, recipe, load=load, **_running(options)), options)


def append(options: argparse.Namespace) -> int:
    """Add sources to a corpus by the recipe that made it; its shards stay as they are."""
    from pipelines import upkeep

    load = _reading(options, upkeep.stored_recipe(options.out, options.cache))
    return _tell(upkeep.append(options.out, _sources(options.source), load=load, **_running(options)), options)


def repair(options: argparse.Namespace) -> int:
    """Check every byte, set aside what is damaged, fold the catalog anew, and build what is missing from the sources."""
    from pipelines import upkeep

    load = _reading(options, upkeep.stored_recipe(options.out, options.cache))
    done = upkeep.repair(options.out, _sources(options.source), load=load, **_running(options))
    for shard, why in done.set_aside.items():
        print(f"{shard} set aside: {why}")
    if done.outcome is not None:
        _tell(done.outcome, options)
    for trouble in done.troubles:
        print(trouble, file=sys.stderr)
    print(f"{options.out}: {_troubles(len(done.troubles))}")
    if done.troubles and not options.source:
        print("loom: name the sources (--source) to build what is missing", file=sys.stderr)
    return 1 if done.troubles else 0


def merge(options: argparse.Namespace) -> int:
    """Make one corpus of several that the same recipe made. Motion that several hold is kept once, the first one's."""
    from pipelines.merge import merge as join

    done = join(options.corpora, options.out)
    print(
        f"{options.out}: {done.taken_count} shards taken over, {done.rewritten_count} written anew; "
        f"{done.dropped_count} clips stood in several corpora, {done.copy_count} are copies under another name"
    )
    return 0


def gc(options: argparse.Namespace) -> int:
    """List what nothing refers to: leftovers of killed runs, things set aside, older plans; with --delete, delete it."""
    from pipelines.upkeep import collect_garbage

    found = collect_garbage(options.out, delete=options.delete, cache=options.cache)
    _table(["what", "size", "why"], [
        [orphan.name, _size(orphan.byte_count), orphan.why] for orphan in found
    ], numeric=["size"])  # fmt: skip
    total = _size(sum(orphan.byte_count for orphan in found))
    print(f"{'deleted' if options.delete else 'found'} {len(found)}, {total}")
    return 0


def _tell(outcome, options: argparse.Namespace) -> int:
    """Say what a build did; gives the exit code."""
    for failure in outcome.failures:
        print(f"loom: shard {failure.task['shard']} failed: {failure.error}", file=sys.stderr)
        if options.traceback:
            print(failure.trace, file=sys.stderr)
    if not outcome.built_count and outcome.complete:
        print(f"nothing to do: all {outcome.shard_count} shards of {options.out} exist ({outcome.seconds:.1f} s)")
    else:
        print(
            f"built {outcome.built_count} of {outcome.shard_count} shards in {outcome.seconds:.1f} s: "
            f"{outcome.frame_count:,} frames, {outcome.kept_count:,} kept; "
            f"peak {outcome.peak_memory_mb:.0f} MiB per worker"
        )
        print(_how_it_went(outcome))
        if outcome.built_count and options.report:
            print(f"see: {options.report}")
        print(f"see: loom info {options.out}")
    if not outcome.complete:
        hint = "" if options.traceback else " (--traceback shows where)"
        print(
            f"loom: {len(outcome.missing)} shards are missing{hint}; run the same command to try again", file=sys.stderr
        )
    return 0 if outcome.complete else 1


def _how_it_went(outcome) -> str:
    shard, seconds = outcome.slowest
    return (
        f"{outcome.frame_count / max(outcome.seconds, 1e-6):,.0f} frames/s, "
        f"{outcome.frame_count / max(outcome.cpu_seconds, 1e-6):,.0f} per core-second; "
        f"{outcome.worker_count} workers, {outcome.death_count} deaths, {outcome.reissue_count} shards issued twice; "
        f"slowest shard {shard or 'none'}: {seconds:.1f} s"
    )


def retarget(options: argparse.Namespace) -> int:
    """Put one file of motion on the robot, as a build does, and tell what a build would make of it."""
    from pipelines import one_file

    recipe, load = _recipe(options)
    done = one_file.retarget_file(
        options.file, options.out, recipe, load, name=options.source, part=options.part, frames=options.frames
    )
    print(_read_as(done.row))
    _table(["measure", "value", "unit", "limit"], _measure_cells(done, recipe), numeric=["value", "limit"])
    spans = [
        [f"{v.start / recipe.fps:.2f}", f"{v.stop / recipe.fps:.2f}", v.status, v.why] for v in one_file.verdicts(done)
    ]
    _table(["from s", "to s", "a build has it", "why"], spans, numeric=["from s", "to s"])
    print(f"wrote {options.out}")
    if options.frames:
        print(f"wrote {options.frames}")
    if options.view:
        _view(done.motion, options.out.with_suffix(".svg"), options.file.name)
    return 0


def info(options: argparse.Namespace) -> int:
    """Print how a corpus's headline number is made up, and why the rest was left out."""
    from pipelines.inventory import ledger_of, reject_reasons

    out = _local_tables(options)
    book, fps = ledger_of(out)
    stages = [[stage.name, _count(stage.clips), _hours(stage.frames, fps), stage.gone] for stage in book.stages()]
    _table(["stage", "clips", "hours", "left out on the way, or how counted"], stages, numeric=["clips", "hours"])
    print()
    hours = ["in h", "passed h", "rejected h", "cut h", "unique h", "virtual h"]
    columns = ["source", "licence", "clips", *hours, "passed"]
    _table(columns, [_ledger_cells(row, fps) for row in book.lines()], numeric=columns[2:])
    reasons = reject_reasons(out, limit=options.reasons)
    if reasons:
        _table(["left out", "reason", "count", "hours"], [
            [kind, reason, f"{count:,}", _hours(frames, fps)] for kind, reason, count, frames in reasons
        ], numeric=["count", "hours"])  # fmt: skip
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check every byte of a corpus against its checksums, and the catalog against the shards."""
    from pipelines.upkeep import troubles

    count = 0
    for trouble in troubles(options.out, options.cache):
        print(trouble, file=sys.stderr)
        count += 1
    print(f"{options.out}: {_troubles(count)}")
    return 1 if count else 0


def rehearse(options: argparse.Namespace) -> int:
    """Plan, resume, fold, open, query and schedule a corpus of any size, of made-up clips, and reckon what building it takes."""
    from pipelines.rehearsal.rehearse import Rehearsal
    from pipelines.rehearsal.report import rehearse_aloud

    rehearsal = Rehearsal(
        frames=options.frames,
        clips=options.clips or max(1, options.frames // 400),
        frames_per_core_second=options.frames_per_core_second,
    )
    rehearse_aloud(rehearsal, options.work, cores=options.cores, keep=options.keep)
    return 0


def demo(options: argparse.Namespace) -> int:
    """Build a small corpus from made-up files, or from the folders given, and show what came of it."""
    from pipelines import demo as show

    return int(show.main(options.out, _sources(options.data)) or 0)


def _troubles(count: int) -> str:
    return f"{count} trouble{'' if count == 1 else 's'}" if count else "whole"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loom", description="Weave human motion of many formats into one G1 corpus.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(function, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(function.__name__, help=text, description=function.__doc__)
        made.set_defaults(run=function)
        return made

    one = command(scan, "what lies in folders of motion files")
    one.add_argument("folders", nargs="+", metavar="DIR", help="a folder, or SOURCE=DIR to use that source's reader")
    _add_build_options(command(build, "make a corpus, or complete one"))
    _add_growing_options(command(append, "add sources to a corpus"), required=True)
    _add_growing_options(command(repair, "mend a damaged corpus"), required=False)
    one = command(merge, "make one corpus of several")
    one.add_argument("corpora", type=Path, nargs="+", metavar="CORPUS")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new corpus")
    one = command(gc, "clear away leftovers")
    _add_corpus(one)
    one.add_argument("--delete", action="store_true", help="delete what is listed")
    _add_retarget_options(command(retarget, "put one file of motion on the robot"))
    one = command(info, "what a corpus holds, and what was left out and why")
    _add_corpus(one)
    one.add_argument("--reasons", type=int, default=15, metavar="N", help="how many reasons to list (default 15)")
    _add_corpus(command(verify, "check a corpus's checksums and tables"))
    _add_rehearse_options(command(rehearse, "try the plan, catalog, scheduler and loader at any size"))
    one = command(demo, "build and show a small corpus")
    one.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="where to (default demo-out)")
    one.add_argument(
        "--data", action="append", default=[], metavar="SOURCE=DIR", help="real files instead of made-up ones"
    )
    return parser


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=_place, metavar="OUT", help="a corpus: a folder or s3://bucket/folder")
    _add_cache(parser)


def _add_cache(parser: argparse.ArgumentParser) -> None:
    about = "where copies of what lies on object storage are kept (default ~/.cache/motionloom)"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=about)


def _add_build_options(parser: argparse.ArgumentParser) -> None:
    _add_source_option(parser, required=True)
    parser.add_argument(
        "--out", type=_place, required=True, metavar="OUT", help="the corpus: a folder or s3://bucket/folder"
    )
    _add_running_options(parser)
    _add_recipe_options(parser)


def _add_growing_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Options of commands that build by the recipe of the corpus."""
    parser.add_argument("out", type=_place, metavar="OUT", help="a corpus: a folder or s3://bucket/folder")
    _add_source_option(parser, required=required)
    _add_running_options(parser)
    _add_reading_options(parser)


def _add_source_option(parser: argparse.ArgumentParser, *, required: bool) -> None:
    text = f"may be repeated; sources: {', '.join(SOURCE_NAMES)}"
    parser.add_argument("--source", action="append", required=required, default=[], metavar="SOURCE=DIR", help=text)


def _add_running_options(parser: argparse.ArgumentParser) -> None:
    """Where and how tasks run: what `_running` reads."""
    _add_cache(parser)
    add = parser.add_argument
    add("--workers", type=_positive, metavar="N", help="processes on this machine (default: one per core)")
    add("--scheduler", default="local", metavar="local|tcp://…", help="where tasks run: here, or a Dask scheduler")
    add(
        "--worker-memory",
        metavar="SIZE",
        help="most memory of a worker on this machine, as in 2GB; beyond, it is killed",
    )
    add("--report", type=Path, metavar="FILE.html", help="write Dask's performance report")
    add("--traceback", action="store_true", help="show where failed tasks failed")


def _add_rehearse_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--frames", type=_number, required=True, metavar="N", help="size of the corpus, as in 2e9")
    add("--clips", type=_number, metavar="N", help="in how many clips (default: one for every 400 frames)")
    add("--cores", type=_positive, default=1000, metavar="N", help="of the cluster to reckon for (default 1000)")
    add("--frames-per-core-second", type=_rate, metavar="F", help="default: measured by a small build, here and now")
    add("--work", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR", help="where temporary files may lie")
    add("--keep", action="store_true", help="leave them there")


def _add_retarget_options(parser: argparse.ArgumentParser) -> None:
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
    """How files are read: what `_reading` reads."""
    files = parser.add_argument_group("files")
    files.add_argument("--body-models", type=Path, metavar="DIR", help="your SMPL-X or SMPL-H files (smplx layout)")
    files.add_argument("--skeleton", type=Path, metavar="FILE", help="TOML or JSON that maps a BVH skeleton's joints")
    files.add_argument("--quat", choices=("auto", "wxyz", "xyzw"), help="quaternion order in robot CSV files")
    files.add_argument("--fps", type=float, metavar="HZ", help="frame rate of files that carry none")


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """How files are read and what is kept: what `_recipe` reads."""
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


def _running(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "scheduler": options.scheduler,
        "workers": options.workers,
        "worker_memory": options.worker_memory,
        "report": options.report,
        "cache": options.cache,
        "progress": True,
    }


def _recipe(options: argparse.Namespace) -> tuple[Any, Any]:
    """The recipe and the readers' options that the command line asks for."""
    from pipelines.recipe import Recipe, with_choice

    recipe = Recipe()
    if options.recipe is not None:
        recipe = Recipe.from_json(_read(options.recipe))
    named = {"cut.min_s": options.min_s, "cut.max_s": options.max_s, "gate.foot_slide_limit": options.foot_slide}
    chosen = [(name, json.dumps(value)) for name, value in named.items() if value is not None]
    for name, value in [*chosen, *(_pair(text, "NAME=VALUE") for text in options.set)]:
        recipe = with_choice(recipe, name, value)
    return recipe, _reading(options, recipe)


def _reading(options: argparse.Namespace, recipe) -> Any:
    """The readers' options: those given, else the recipe's."""
    from corpus.sources.options import LoadOptions

    return LoadOptions(
        body_models=options.body_models,
        skeleton=options.skeleton,
        quaternion=options.quat or recipe.load.quaternion,
        fps=recipe.load.fps if options.fps is None else options.fps,
    )


def _sources(texts: Sequence[str]) -> dict[str, Path]:
    sources: dict[str, Path] = {}
    for text in texts:
        name, folder = _pair(text, "SOURCE=DIR")
        if name not in SOURCE_NAMES:
            raise MotionloomError(f"No source named {name!r}. Known: {', '.join(sorted(SOURCE_NAMES))}.")
        if name in sources:
            raise MotionloomError(f"Source {name} is given twice: put both folders into one and name that.")
        sources[name] = Path(folder)
    return sources


def _folder(text: str) -> tuple[Path, str | None]:
    """DIR or SOURCE=DIR; a folder whose name holds "=" is a folder."""
    name, _, folder = text.partition("=")
    if folder and not Path(text).is_dir():
        return _sources([text])[name], name
    return Path(text), None


def _pair(text: str, form: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise MotionloomError(f"Expected {form}, not {text!r}.")
    return name, value


def _place(text: str) -> Path | str:
    """A folder; a URL stays text, since a `Path` would take one of its slashes away."""
    return text if "://" in text else Path(text)


def _local_tables(options: argparse.Namespace) -> Path:
    """The folder with a corpus's tables: the corpus itself, or a copy of what lies on object storage."""
    if isinstance(options.out, Path):
        return options.out
    from pipelines.bucket_inventory import tables

    return tables(options.out, options.cache)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
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


def _view(motion, picture: Path, title: str) -> None:
    """Write a picture; where a window can open, play the motion in it."""
    from pipelines import one_file

    print(f"wrote {one_file.write_picture(motion, picture, title=title)}")
    if one_file.has_display():
        try:
            one_file.play(motion)
        except (ImportError, RuntimeError) as error:  # no viewer in this MuJoCo, or no window: the picture is there
            print(f"no viewer: {error}", file=sys.stderr)


def _read_as(row: dict[str, Any]) -> str:
    part = f" [{row['part']}]" if row["part"] else ""
    told = [f"{row['source_frames']:,} frames at {row['source_fps']:g} Hz", row["note"], f"licence: {row['licence']}"]
    return f"{row['path']}{part} read as {row['source']}: {'; '.join(filter(None, told))}"


def _measure_cells(done, recipe) -> list[list[str]]:
    from pipelines.one_file import whole_quality
    from pipelines.report import MEASURES

    frames, scale = done.row["frames"], done.row["scale"]
    cells = [
        ["Frames", f"{frames:,}", "", ""],
        ["Length", f"{frames / recipe.fps:.2f}", "s", ""],
        ["Robot's leg, of the person's", "–" if scale is None else f"{scale:.3f}", "", ""],
    ]
    quality = whole_quality(done)
    for name, (title, unit) in MEASURES.items():
        value, limit = getattr(quality, name), getattr(recipe.gate, f"{name}_limit", None)
        cells.append([title, "–" if value != value else f"{value:.4g}", unit, "" if limit is None else f"{limit:g}"])
    return cells


def _survey_cells(row) -> list[str]:
    size, hours = _size(row.byte_count), f"{row.frames / 50 / 3600:,.2f}"
    return [row.folder, row.source, row.extension, f"{row.file_count:,}", size, f"{row.frames:,}", hours]


def _ledger_cells(row: dict[str, Any], fps: float) -> list[str]:
    share = f"{row['frames_kept'] / row['frames']:.1%}" if row["frames"] else "–"
    names = ("frames", "frames_kept", "frames_rejected", "frames_cut", "frames_unique", "frames_virtual")
    return [row["source"], row["licence"], _count(row["clips"]), *(_hours(row[name], fps) for name in names), share]


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _hours(frames: int | None, fps: float) -> str:
    return "–" if frames is None else f"{frames / fps / 3600:,.3f}"


def _size(byte_count: int) -> str:
    value = float(byte_count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _table(columns: list[str], rows: list[list[str]], *, numeric: Sequence[str] = ()) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", no_wrap=column in numeric)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a file's name is no markup
    # A log has no width: rich would take 80 columns and cut names short.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    sys.exit(main())
