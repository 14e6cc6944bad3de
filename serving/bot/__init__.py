"""The Telegram bot: what it is asked, who may ask, and what it tells by itself."""
