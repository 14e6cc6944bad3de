"""Brokers of real venues, each behind :class:`domain.ports.Broker`."""
