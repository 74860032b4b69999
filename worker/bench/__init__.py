"""Benchmarks: the worker beside the null pipeline of the same client, on this machine, every answer checked first.

Rule of this folder: contenders are processes of their own that know nothing of each other, and none times itself. Their
speed is read from the times that the broker gave to their outputs (LogAppendTime).
"""
