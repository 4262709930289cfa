"""WHAT WE DO TO A CALL: one file a policy, independent of each other."""
