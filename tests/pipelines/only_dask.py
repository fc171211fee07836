"""Preloaded by the Dask scheduler: none of our packages can be imported there, as in an image that holds only Dask."""

import sys

sys.modules.update(dict.fromkeys(("corpus", "retarget", "hme", "trainer", "deploy", "pipelines")))  # type: ignore
