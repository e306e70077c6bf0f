"""Notes, in a folder that is called like a library."""
