"""Retargeting: human motion in, robot motion out, one clip at a time."""
