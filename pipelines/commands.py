"""What each command of `loom` does and prints.

Heavy modules are imported inside the commands that need them, so that `loom --help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError
from pipelines.console import counted, in_bytes, in_hours, print_table
from pipelines.options import reading_options, recipe_options, running_options, source_folder, source_folders


def scan(options: argparse.Namespace) -> int:
    """Print what lies in folders: files by extension, their size, about how many frames, and who could read them."""
    from pipelines.survey import survey

    rows = [row for place in options.folders for row in survey(*source_folder(place))]
    columns = ["folder", "source", "extension", "files", "size", "frames (about)", "hours (about)"]
    print_table(columns, [_survey_cells(row) for row in rows], numeric=columns[3:])
    return 0


def build(options: argparse.Namespace) -> int:
    """Make a corpus, or complete one."""
    from pipelines.build import build as make

    recipe, load = recipe_options(options)
    return _tell(
        make(source_folders(options.source), options.out, recipe, load=load, **running_options(options)), options
    )


def append(options: argparse.Namespace) -> int:
    """Add sources to a corpus by the recipe that made it; its shards stay as they are."""
    from pipelines import upkeep

    load = reading_options(options, upkeep.stored_recipe(options.out, options.cache))
    return _tell(
        upkeep.append(options.out, source_folders(options.source), load=load, **running_options(options)), options
    )


def repair(options: argparse.Namespace) -> int:
    """Check every byte, set aside what is damaged, fold the catalog anew, and build what is missing from the sources."""
    from pipelines import upkeep

    load = reading_options(options, upkeep.stored_recipe(options.out, options.cache))
    done = upkeep.repair(options.out, source_folders(options.source), load=load, **running_options(options))
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
    print_table(["what", "size", "why"], [
        [orphan.name, in_bytes(orphan.byte_count), orphan.why] for orphan in found
    ], numeric=["size"])  # fmt: skip
    total = in_bytes(sum(orphan.byte_count for orphan in found))
    print(f"{'deleted' if options.delete else 'found'} {len(found)}, {total}")
    return 0


def retarget(options: argparse.Namespace) -> int:
    """Put one file of motion on the robot, as a build does, and tell what a build would make of it."""
    from pipelines import one_file

    recipe, load = recipe_options(options)
    done = one_file.retarget_file(
        options.file, options.out, recipe, load, name=options.source, part=options.part, frames=options.frames
    )
    print(_read_as(done.row))
    print_table(["measure", "value", "unit", "limit"], _measure_cells(done, recipe), numeric=["value", "limit"])
    spans = [
        [f"{v.start / recipe.fps:.2f}", f"{v.stop / recipe.fps:.2f}", v.status, v.why] for v in one_file.verdicts(done)
    ]
    print_table(["from s", "to s", "a build has it", "why"], spans, numeric=["from s", "to s"])
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
    stages = [[stage.name, counted(stage.clips), in_hours(stage.frames, fps), stage.gone] for stage in book.stages()]
    print_table(["stage", "clips", "hours", "left out on the way, or how counted"], stages, numeric=["clips", "hours"])
    print()
    hours = ["in h", "passed h", "rejected h", "cut h", "unique h", "virtual h"]
    columns = ["source", "licence", "clips", *hours, "passed"]
    print_table(columns, [_ledger_cells(row, fps) for row in book.lines()], numeric=columns[2:])
    reasons = reject_reasons(out, limit=options.reasons)
    if reasons:
        print_table(["left out", "reason", "count", "hours"], [
            [kind, reason, f"{count:,}", in_hours(frames, fps)] for kind, reason, count, frames in reasons
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


def report(options: argparse.Namespace) -> int:
    """Write a corpus on one page: its ledger, what was left out and why, how it looks and measures, what in it is alike."""
    from pipelines.report import write_report

    if not isinstance(options.out, Path):
        raise MotionloomError("A report is written of a corpus in a folder.")
    page = options.page or options.out / "report" / "report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_report(options.out, page, picture_count=options.pictures)
    print(f"wrote {page}")
    return 0


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

    return int(show.main(options.out, source_folders(options.data)) or 0)


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


def _troubles(count: int) -> str:
    return f"{count} trouble{'' if count == 1 else 's'}" if count else "whole"


def _local_tables(options: argparse.Namespace) -> Path:
    """The folder with a corpus's tables: the corpus itself, or a copy of what lies on object storage."""
    if isinstance(options.out, Path):
        return options.out
    from pipelines.bucket_inventory import tables

    return tables(options.out, options.cache)


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
    size, hours = in_bytes(row.byte_count), f"{row.frames / 50 / 3600:,.2f}"
    return [row.folder, row.source, row.extension, f"{row.file_count:,}", size, f"{row.frames:,}", hours]


def _ledger_cells(row: dict[str, Any], fps: float) -> list[str]:
    share = f"{row['frames_kept'] / row['frames']:.1%}" if row["frames"] else "–"
    names = ("frames", "frames_kept", "frames_rejected", "frames_cut", "frames_unique", "frames_virtual")
    return [row["source"], row["licence"], counted(row["clips"]), *(in_hours(row[name], fps) for name in names), share]
