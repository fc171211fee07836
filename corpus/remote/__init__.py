"""A corpus on object storage: written there, mirrored, and read through a cache."""
