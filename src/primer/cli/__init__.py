"""The command line: one thin file a verb, and what they share (flags, progress, curves, tables)."""
