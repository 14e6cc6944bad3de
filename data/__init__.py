"""From the outside world to clean bars and features."""
