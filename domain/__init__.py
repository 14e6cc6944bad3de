"""The words and contracts of Conclave. Standard library and NumPy only."""
