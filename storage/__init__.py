"""The database. Nobody else writes SQL."""
