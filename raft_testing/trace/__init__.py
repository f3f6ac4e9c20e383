"""Traces of a run: records, replay and the HTML page."""
