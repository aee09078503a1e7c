"""What `benchmarks/gpu.py` measures: each module makes cases of one operator, `timing` runs them."""
