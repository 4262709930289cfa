"""What weir costs, in CPU, time and memory, beside other proxies in the same run. Prints tables; never a timed test."""
