"""Mutation testing (`nox -s mutation`): the package is changed, and tests have to notice."""
