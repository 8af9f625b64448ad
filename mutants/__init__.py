"""Mutants: small faults put into the core, each of which some test must find.

Of mutmut and cosmic-ray neither serves. Both run every mutant of a file where a sample is wanted;
cosmic-ray runs one command for all mutants, whatever tests reach them, and neither leaves out a
statement, which found more holes here than all operators together.
"""
