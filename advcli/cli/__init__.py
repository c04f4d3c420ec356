"""The command line: parse, call one function of the audit, print, exit code.

Importing it imports Click alone. What a command needs is imported when the command runs.
"""
