"""Verbs that give a score."""
