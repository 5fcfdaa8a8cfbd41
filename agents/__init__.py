"""The worker: an agent that takes tasks from the hub and runs them as processes."""
