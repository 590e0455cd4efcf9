"""Loaders for frameworks with datasets of their own: a module each, which imports its framework."""
