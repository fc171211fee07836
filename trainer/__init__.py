"""Training: experts that follow clusters of motion, and the one student that learns from them all."""
