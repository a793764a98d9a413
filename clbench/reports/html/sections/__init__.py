"""Sections of the report: plain values for templates and figures."""
