"""The rows that stand beside the agents in every table: what one gets without a council."""
