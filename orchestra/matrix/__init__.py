"""A matrix at its hub: which matrix a clone is, and what its memory and the hub still owe each other."""
