"""The configuration tree: its schema, how it is composed, what it may name, and what is built from it."""
