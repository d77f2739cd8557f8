"""Faults that tests put between a program and its services."""
