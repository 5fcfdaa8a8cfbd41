"""GitHub, as far as a memory needs it: an issue goes there once."""
