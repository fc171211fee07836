"""What is not work in a corpus of two billion frames: planning it, opening it, drawing from it, sending its tasks.

    python -m benchmarks.scale [--frames 2e9] [--clips 5e6] [--cores 1000] [--work DIR]

`loom rehearse` at full size: made-up clips, shards of holes, and the functions of builds and loaders. It takes about ten
minutes, 6 GiB of memory and 6 GB of disk. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path

from pipelines.rehearsal.rehearse import Rehearsal
from pipelines.rehearsal.report import rehearse_aloud


def main() -> None:
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    rehearsal = Rehearsal(frames=int(options.frames), clips=int(options.clips))
    print(json.dumps(rehearse_aloud(rehearsal, options.work, cores=options.cores)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="Overheads of a corpus at full size."
    )
    parser.add_argument("--frames", type=float, default=2e9, help="frames of the corpus (default 2e9)")
    parser.add_argument("--clips", type=float, default=5e6, help="in how many clips (default 5e6)")
    parser.add_argument("--cores", type=int, default=1000, help="of the cluster to reckon for (default 1000)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where temporary files may lie")
    return parser


if __name__ == "__main__":
    main()
