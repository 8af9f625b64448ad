"""Mutants: small faults put into the core, each of which some test must find.

The operators are our own: those of cosmic-ray 8.7 leave out no statement, and it runs one command
for all mutants, no matter which tests reach them. mutmut was not tried.
"""
