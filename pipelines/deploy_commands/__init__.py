"""`loom deploy …`."""
