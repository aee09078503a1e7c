"""Kernels of mmedge: one operator a folder, each with a checked public function and a slow, obvious reference.

Importing this package imports nothing else; import the operator that you need, such as ``mmedge_kernels.frame``.
"""
