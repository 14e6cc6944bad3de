"""The composition root: only these modules name concrete classes and hand them to each other.

One for each kind of process, so that an agent's does not wait for what only a desk needs.
"""
