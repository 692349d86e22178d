"""Benchmark tasks: questions that need steps as well as retrieval, over the conditions of an experiment."""
