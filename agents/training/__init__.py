"""Training of the agents that learn: bars in, versioned artifacts out."""
