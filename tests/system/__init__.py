"""Tests with real processes: what must survive a kill, a full disk and hostile peers."""
