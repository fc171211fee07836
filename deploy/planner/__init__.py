"""A kinematic planner: where to go and how, made into a reference motion out of the motions of a corpus, as one plays a record."""
