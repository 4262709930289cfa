"""WHAT THE OPERATOR ASKED FOR: the configuration model and its loading."""
