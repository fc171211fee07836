"""The harmonic motion embedding: what a motion is like, in a few numbers; clusters, duplicates and selection by it."""
