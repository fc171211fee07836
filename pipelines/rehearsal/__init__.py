"""A build of any size, rehearsed with made-up clips."""
