"""Questions that need every room at once, answered by running the whole chain many times."""
