"""The memory of a matrix: one SQLite file that holds what outlives a session, and answers without any other program."""
