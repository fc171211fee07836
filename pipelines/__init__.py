"""Pipelines: the `loom` command, and how files become a corpus on one machine or on many."""
