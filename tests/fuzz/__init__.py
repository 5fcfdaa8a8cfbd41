"""Coverage-guided fuzzing of what strangers can say: `tox -e fuzz -- SECONDS`; with atheris: `python -m tests.fuzz`."""
