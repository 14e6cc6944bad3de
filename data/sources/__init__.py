"""Feeds of closed bars."""
