"""One checkpoint through several converters and runtimes, measured beside each other (`benchmarks/peers.py`)."""
