"""The engine: runs a checkpoint natively, step by step."""
