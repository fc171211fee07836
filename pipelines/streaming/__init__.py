"""Live human motion in, the robot's postures out: what `loom stream` and `loom play` are made of."""
