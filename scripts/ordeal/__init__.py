"""What a library must survive: faults at every system call, power cuts, readers beside a writer."""
