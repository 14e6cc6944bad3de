"""A Binance-compatible exchange on this machine: markets, books and orders over HTTP."""
