"""Runs in a separate Python: reads one stored text after another, and nothing else.

Imports only the standard library, so that the child starts in milliseconds and holds nothing of
the app: no settings, no connection, no environment.
"""
