"""The side that decides what is trained next, again, and which trial is best."""
