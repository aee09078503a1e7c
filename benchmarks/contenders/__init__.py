"""What the benchmarks of whole models share: who is compared, how turns are taken, how results are written."""
