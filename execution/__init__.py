"""From decisions to orders, fills and books."""
