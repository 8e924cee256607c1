"""How fast a model is on this machine, beside other engines and beside what the machine can do at all.

Imports nothing: the process that measures one engine must not carry the others.
"""
