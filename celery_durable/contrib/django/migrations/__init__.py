"""One migration for each of the library's own, of the same number."""
