"""Features of a data set by frozen networks, computed once and stored as a data set (`clbench features`)."""
