"""PUTS IT TOGETHER: the stack, the wiring, the life of the process."""
