"""Deployment: the policy bundle, the observation and the controller that run on the robot, without torch."""
