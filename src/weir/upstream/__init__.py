"""HOW WE REACH THE SERVER: HTTP connections and child processes."""
