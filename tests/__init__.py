"""The tests. They mirror the source; names are sentences about behaviour."""
