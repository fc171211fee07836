"""The command `loom`: scan, build, append, merge, repair, gc, retarget, info, verify, report, rehearse, demo, and those of `pipelines.{hme,train,deploy,stream}_commands`."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from corpus.errors import MotionloomError
from pipelines import commands, deploy_commands, hme_commands, stream_commands, train_commands
from pipelines.options import (
    add_build_options,
    add_corpus,
    add_growing_options,
    add_rehearse_options,
    add_retarget_options,
    place,
)

INTERRUPTED = 130
"""Exit code after ctrl-C, as shells have it."""
MENDABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOENT,
    errno.ENAMETOOLONG,
)
"""What a system says where a disk is full or a place may not be written, or is none: nothing that a traceback would tell more of."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 only when nothing is missing."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    for name in ("pipelines", "corpus", "hme", "trainer", "deploy"):
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
    except MemoryError as error:
        print(f"loom: out of memory ({error or 'no figures'}): ask for less at a time", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        where = error.filename or ("the disk" if error.strerror else "")
        print("loom: " + ": ".join(filter(None, (str(where), error.strerror or str(error)))), file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loom", description="Weave human motion of many formats into one G1 corpus.")
    known = parser.add_subparsers(required=True, metavar="command")

    def command(function, text: str) -> argparse.ArgumentParser:
        made = known.add_parser(function.__name__, help=text, description=function.__doc__)
        made.set_defaults(run=function)
        return made

    one = command(commands.scan, "what lies in folders of motion files")
    one.add_argument("folders", nargs="+", metavar="DIR", help="a folder, or SOURCE=DIR to use that source's reader")
    add_build_options(command(commands.build, "make a corpus, or complete one"))
    add_growing_options(command(commands.append, "add sources to a corpus"), required=True)
    add_growing_options(command(commands.repair, "mend a damaged corpus"), required=False)
    one = command(commands.merge, "make one corpus of several")
    one.add_argument("corpora", type=place, nargs="+", metavar="CORPUS")
    one.add_argument("--out", type=place, required=True, metavar="DIR", help="the new corpus")
    one = command(commands.gc, "clear away leftovers")
    add_corpus(one)
    one.add_argument("--delete", action="store_true", help="delete what is listed")
    add_retarget_options(command(commands.retarget, "put one file of motion on the robot"))
    one = command(commands.info, "what a corpus holds, and what was left out and why")
    add_corpus(one)
    one.add_argument("--reasons", type=int, default=15, metavar="N", help="how many reasons to list (default 15)")
    add_corpus(command(commands.verify, "check a corpus's checksums and tables"))
    one = command(commands.report, "a corpus on one page")
    add_corpus(one)
    one.add_argument("--page", type=Path, metavar="FILE.html", help="where to (default OUT/report/report.html)")
    one.add_argument("--pictures", type=int, default=8, metavar="N", help="segments to draw (default 8)")
    hme_commands.add_commands(known)
    train_commands.add_commands(known)
    deploy_commands.add_commands(known)
    stream_commands.add_commands(known)
    add_rehearse_options(command(commands.rehearse, "try the plan, catalog, scheduler and loader at any size"))
    one = command(commands.demo, "build and show a small corpus")
    one.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="where to (default demo-out)")
    one.add_argument(
        "--data", action="append", default=[], metavar="SOURCE=DIR", help="real files instead of made-up ones"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
