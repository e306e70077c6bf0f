"""Notes, in a folder named like a library."""
