"""Thin adapters to frameworks, none of which the package needs."""
