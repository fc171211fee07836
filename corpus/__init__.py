"""The corpus: motions, the robot, the readers of every format, shards, the catalog and the loader."""
