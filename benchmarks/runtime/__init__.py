"""What the runtime costs, side by side with its peers: `python -m benchmarks.runtime`."""
