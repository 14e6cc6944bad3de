"""Bad days, made to order: what the market does to a desk, and whether its limits hold."""
