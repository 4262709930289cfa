"""WHO TALKS TO WHOM: sessions, back-channel, subscriptions, routing."""
