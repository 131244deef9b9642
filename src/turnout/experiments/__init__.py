"""The mathematics of experiments: numbers in, numbers out. No clock, no I/O, no hidden randomness."""
