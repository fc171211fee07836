"""Preloaded by a Dask worker: it holds another version of the code."""

from pipelines import guard

guard.code_digest = lambda: "another version"
